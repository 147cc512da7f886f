"""`tinyllm label`."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from interrupts import heed_ctrl_c

from tinyllm.cli.main import main
from tinyllm.data.conversations.preferences import read_preferences
from tinyllm.data.tasks.news import make_story, make_summary
from tinyllm.labels import Item, LabelStore, read_items, read_labels, write_items
from tinyllm.labels.news_items import news_item
from tinyllm.labels.store import Label
from tinyllm.models import GPT, GPTConfig
from tinyllm.tokenizers import END_OF_TEXT, BPETokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS


@pytest.fixture
def items(tmp_path):
    """A file of ten items made of news."""
    rng = np.random.default_rng(0)
    stories = [make_story(rng) for _ in range(10)]
    path = tmp_path / "items.jsonl"
    write_items(path, [news_item(str(i), story, [make_summary(story, rng) for _ in range(5)]) for i, story in enumerate(stories)])
    return path


@pytest.fixture(scope="module")
def assistant(tmp_path_factory):
    """The folder of an untrained model whose tokenizer has the chat's control tokens."""
    tokenizer = BPETokenizer.train([b"What comes after 8?"], vocab_size=280, special_tokens=(END_OF_TEXT, *CONTROL_TOKENS))
    config = GPTConfig(vocab_size=tokenizer.vocab_size, block_size=64, n_layers=1, n_heads=2, d_model=8)
    folder = tmp_path_factory.mktemp("assistant")
    GPT(config, rng=np.random.default_rng(0)).save_pretrained(folder, tokenizer=tokenizer)
    return folder


def output(capsys, *words):
    capsys.readouterr()
    assert main(["label", *map(str, words)]) == 0
    return capsys.readouterr()


def test_a_models_answers_become_items(assistant, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("8?\n\n9?\n")
    words = "make", assistant, prompts, "--n-answers", 3, "--max-new-tokens", 8, "--out"
    assert "2 prompts with 3 different answers each" in output(capsys, *words, tmp_path / "a.jsonl").out
    found = read_items(tmp_path / "a.jsonl")
    assert [item.prompt[0]["content"] for item in found] == ["8?", "9?"] and all(len(item.answers) == 3 for item in found)
    output(capsys, *words, tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_make_says_where_the_model_has_no_five_different_answers(base, tmp_path, capsys, fails):
    (tmp_path / "prompts.txt").write_text("Hi\nHello\n")
    make = ["label", "make", base, "--prompts", tmp_path / "prompts.txt", "--max-new-tokens", 1]
    assert "one and the same answer to each prompt" in fails(*make, "--out", tmp_path / "none.jsonl", "--temperature", 0)
    assert not (tmp_path / "none.jsonl").exists()
    shown = output(capsys, *make[1:], "--out", tmp_path / "few.jsonl", "--temperature", 0.015).out
    items = read_items(tmp_path / "few.jsonl")
    assert all(2 <= len(set(item.answers)) == len(item.answers) < 5 for item in items)
    assert "different answers each" in shown and f"{len(items)} of them with fewer" in shown


def test_make_refuses_before_it_loads_a_model(tmp_path, items, fails):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Hi\n")
    make = "label", "make", "no/model", "--prompts", prompts, "--out"
    assert "PROMPTS is missing" in fails("label", "make", "no/model", "--out", tmp_path / "x.jsonl")
    assert "exists; choose another name" in fails(*make, items)
    assert "does not exist; make it" in fails(*make, tmp_path / "no" / "items.jsonl")
    assert "n_answers must be a whole number from 2 to 9, got 1" in fails(*make, tmp_path / "x.jsonl", "--n-answers", 1)
    assert "no/model does not exist" in fails(*make, tmp_path / "x.jsonl")


def test_simulated_labels_go_all_the_way_to_pairs(items, tmp_path, capsys):
    labels, pairs = tmp_path / "labels.jsonl", tmp_path / "pairs.jsonl"
    shown = output(capsys, "simulate", items, "--out", labels, "--repeat-every", 5, "--noise", 0.3).out
    assert "12 labels by simulated" in shown and re.search(r"agree with 9\d\.\d% of their pairs", shown)
    output(capsys, "simulate", items, "--out", labels, "--repeat-every", 0, "--labeler", "other")
    table = output(capsys, "agreement", items, labels).out.splitlines()
    assert [line[:27].strip() for line in table[1:]] == ["other, twice", "simulated, twice", "other and simulated"]
    assert table[1].split()[2:4] == ["0", "-"] and table[3].split()[3] == "10"
    shown = output(capsys, "export", items, labels, "--out", pairs).out
    found, _ = read_preferences(pairs)
    assert f"{len(found)} pairs; left out: " in shown and "2 repeated" in shown
    assert {pair.source for pair in found} == {"simulated", "other"}


def test_pairs_come_in_as_items_and_labels_and_go_out_the_same(items, tmp_path, capsys):
    first, again = tmp_path / "first.jsonl", tmp_path / "again.jsonl"
    output(capsys, "simulate", items, "--out", tmp_path / "labels.jsonl", "--labeler", "sim")
    output(capsys, "export", items, tmp_path / "labels.jsonl", "--out", first)
    output(capsys, "import", first, "--items", tmp_path / "i.jsonl", "--out", tmp_path / "l.jsonl", "--labeler", "sim")
    output(capsys, "export", tmp_path / "i.jsonl", tmp_path / "l.jsonl", "--out", again)
    assert read_preferences(again)[0] == read_preferences(first)[0]


def test_labels_of_other_items_are_one_clear_line(items, tmp_path, capsys, fails):
    labels, other = tmp_path / "labels.jsonl", tmp_path / "other.jsonl"
    output(capsys, "simulate", items, "--out", labels)
    write_items(other, [Item("0", "Hi", ("a", "b", "c", "d", "e"))])
    for words in (("export", other, labels, "--out", tmp_path / "p"), ("agreement", other, labels)):
        assert "another prompt set" in fails("label", *words)
    assert "holds no story" in fails("label", "simulate", other, "--out", tmp_path / "new.jsonl")
    assert "No such file" in fails("label", "agreement", tmp_path / "none", labels)


def test_a_file_without_a_decided_pair_gives_no_export(items, tmp_path, fails):
    item = read_items(items)[0]
    no = (False,) * 5
    with LabelStore(tmp_path / "labels.jsonl", [item]) as store:
        store.append(Label(item.id, item.fingerprint, "anna", (4,) * 5, (0, 1, 2, 3, 4), no, no, no, key="k"))
    assert "gives no pair to write (0 pairs; left out: 10 ties" in fails(
        "label", "export", items, tmp_path / "labels.jsonl", "--out", tmp_path / "p"
    )


def test_what_a_crash_cut_short_is_mentioned(items, tmp_path, capsys):
    labels = tmp_path / "labels.jsonl"
    output(capsys, "simulate", items, "--out", labels)
    labels.write_bytes(labels.read_bytes()[:-40])
    assert "1 labels were cut short" in output(capsys, "agreement", items, labels).err


def test_serve_refuses_what_would_be_unsafe(items, tmp_path, fails):
    pytest.importorskip("uvicorn", reason="needs the extra `serve`: pip install '.[serve]'")
    serve = "label", "serve", items, "--out", tmp_path / "labels.jsonl"
    other = tmp_path / "other.jsonl"
    write_items(other, [Item("0", "Hi", ("a", "b", "c", "d", "e"))])
    assert main(["label", "simulate", str(items), "--out", str(tmp_path / "old.jsonl")]) == 0
    assert "another prompt set" in fails("label", "serve", other, "--out", tmp_path / "old.jsonl", "--port", 0)
    assert "every address at once" in fails(*serve, "--host", "0.0.0.0")
    assert "choose a token" in fails(*serve, "--host", "198.51.100.7")
    assert "token has 5 characters" in fails(*serve, "--token", "12345")
    assert "labeler is" in fails(*serve, "--labeler", "a\nb")


def test_serve_prints_the_address_once_answers_and_stops_at_ctrl_c(items, tmp_path):
    pytest.importorskip("uvicorn", reason="needs the extra `serve`: pip install '.[serve]'")
    words = "label", "serve", items, "--out", tmp_path / "labels.jsonl", "--port", "0", "--labeler", "anna"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "tinyllm", *map(str, words)],
        preexec_fn=heed_ctrl_c,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            shown = "".join(process.stdout.readline() for _ in range(4))
            address = re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", shown)[0]
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(), urllib.request.ProxyHandler({}))
            with contextlib.closing(opener.open(address, timeout=10)) as page:
                assert b"url=/" in page.read()
            with contextlib.closing(opener.open(address.partition("?")[0], timeout=10)) as page:
                assert b"label.js" in page.read()
            with contextlib.closing(opener.open(address.partition("?")[0] + "api/session", timeout=10)) as reply:
                assert json.load(reply)["labeler"] == "anna"
        finally:
            process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and errors == "" and "stopped; 0 labels in" in rest and shown.count("token=") == 1
    assert read_labels(tmp_path / "labels.jsonl").labels == ()

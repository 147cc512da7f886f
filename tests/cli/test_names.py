"""Files as other programs and systems leave them: Latin-1 names, byte order marks, Windows line ends."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tinyllm.cli.main import main
from tinyllm.storage.names import name_as_text, name_from_text

MARK = b"\xef\xbb\xbf"
CHAT = [{"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": f"{i}."}]} for i in range(8)]
LATIN = os.fsdecode(b"d\xe9j\xe0 vu")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / LATIN
    path.mkdir()
    return path


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_run_of_files_with_latin_1_names_is_made_and_resumed(folder, base, capsys):
    """Model, data, settings, run folder: all have a byte in their name that is no UTF-8."""
    shutil.copytree(base, folder / LATIN)
    (folder / f"{LATIN}.jsonl").write_bytes(MARK + b"".join(json.dumps(one).encode() + b"\r\n" for one in CHAT))
    (folder / f"{LATIN}.toml").write_bytes(MARK + b"[training]\r\nmax_steps = 2\r\nwarmup_steps = 0\r\nbatch_size = 2\r\n")
    out = folder / "run"
    words = [str(folder / LATIN), str(folder / f"{LATIN}.jsonl"), "--config", str(folder / f"{LATIN}.toml")]
    assert main(["finetune", *words, "--out", str(out)]) == 0
    assert json.loads((out / "config.json").read_text())["settings"]["inputs"]["model"].endswith("d\\xe9j\\xe0 vu")
    assert main(["finetune", "--out", str(out), "--resume", "--max-steps", "3"]) == 0
    (folder / f"{LATIN}.txt").write_bytes(MARK + b"Hi\r\n")
    items = [str(out), str(folder / f"{LATIN}.txt"), "--out", str(folder / f"items {LATIN}.jsonl")]
    assert main(["label", "make", items[0], "--prompts", *items[1:], "--max-new-tokens", "2"]) == 0
    assert json.loads((folder / f"items {LATIN}.jsonl").read_text())["source"] == "d\\xe9j\\xe0 vu.txt"
    assert main(["generate", str(out), "--prompt", "Hi", "--max-new-tokens", "2"]) == 0


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_corpus_with_a_latin_1_name_is_learned_from(folder, text_file):
    shutil.copy(text_file, folder / f"{LATIN}.txt")
    small = "--tokenizer character --block-size 16 --n-layers 1 --n-heads 2 --d-model 8 --batch-size 2 --max-steps 1"
    out = folder / "run"
    words = ["train", "--data", f"{folder}/{LATIN}.txt:2", "--out", str(out), "--n-samples", "0", "--warmup-steps", "0"]
    assert main([*words, *small.split()]) == 0
    assert json.loads((out / "mixture.json").read_text())[0]["name"] == "d\\xe9j\\xe0 vu"
    assert main(["train", "--out", str(out), "--resume"]) == 0


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_name_that_is_no_text_is_written_as_text_and_read_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (LATIN, "plain", "é漢", "a\\xe9", "~x"):
        assert name_as_text(name).encode()
        Path(name).touch()
        assert name_from_text(name_as_text(name)) == name
    assert name_as_text("é漢") == "é漢" and name_from_text("not\\xe9there") == "not\\xe9there"


def test_settings_with_a_byte_order_mark_are_read(tmp_path, fails):
    (tmp_path / "a.toml").write_bytes(MARK + b"[training]\r\nmax_stepz = 2\r\n")
    assert "did you mean max_steps?" in fails("train", "--config", tmp_path / "a.toml", "--out", tmp_path / "run")


def test_a_speaker_that_nobody_knows_is_named_once_and_remembered(tmp_path, base, capsys, fails):
    """One conversation of eight has it; what was said of it holds when the run is resumed."""
    strange = [{"from": "human", "value": "x?"}, {"from": "bing", "value": "x."}]
    (tmp_path / "a.json").write_text(json.dumps([*CHAT, {"conversations": strange, "tools": [1]}]))
    words = ["finetune", str(base), str(tmp_path / "a.json"), "--max-steps", "2", "--warmup-steps", "0", "--batch-size", "2"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "9 records, 1 skipped: 1 with the unknown role 'bing' (first: record 9)" in capsys.readouterr().out
    out = str(tmp_path / "told")
    assert main([*words, "--role", "bing=assistant", "--out", out]) == 0
    assert "9 records; keys that were not used: 'tools' of 1 (first: record 9)" in capsys.readouterr().out
    assert main(["finetune", "--out", out, "--resume", "--max-steps", "3"]) == 0
    assert "skipped" not in capsys.readouterr().out
    assert "expected a speaker of the files and who that is" in fails(*words, "--role", "bing", "--out", tmp_path / "new")
    assert "'bing' is said to be 'bot'; expected one of" in fails(*words, "--role", "bing=bot", "--out", tmp_path / "new")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["train", "a.txt", "--out", ""], "--out"),
        (["finetune", "", "a.jsonl", "--out", "r"], "MODEL"),
        (["finetune", "m", "", "--out", "r"], "FILE"),
        (["dpo", "m", "--preferences", "", "--out", "r"], "--preferences"),
        (["generate", ""], "MODEL"),
        (["tokenizer", "train", "a.txt", "--out="], "--out"),
        (["label", "export", "", "l", "--out", "p"], "ITEMS"),
    ],
)
def test_an_empty_name_is_not_the_folder_one_stands_in(words, name, fails, tmp_path, monkeypatch):
    """An unset variable of a shell: $OUT, where nothing was put into OUT."""
    monkeypatch.chdir(tmp_path)
    assert fails(*words).startswith(f"{name} is empty; give a name")
    assert list(tmp_path.iterdir()) == []


def test_a_sample_prompt_that_is_no_utf_8_is_kept_as_well_as_can_be(text_file, tmp_path):
    words = "--tokenizer byte --block-size 16 --n-layers 1 --n-heads 2 --d-model 8 --batch-size 2 --max-steps 1 --warmup-steps 0"
    out = ["--out", str(tmp_path / "run"), "--sample-prompt", "caf\udce9", "--sample-tokens", "2"]
    assert main(["train", str(text_file), *words.split(), *out]) == 0
    assert '"caf?"' in (tmp_path / "run/samples.jsonl").read_text()

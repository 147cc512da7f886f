"""Prompts from files, and answers to them."""

import json

import numpy as np
import pytest

from tinyllm.decoding import GenerationConfig
from tinyllm.labels.news_items import story_of
from tinyllm.models import GPT, GPTConfig
from tinyllm.recipes import label as answers
from tinyllm.recipes.label import sample_items
from tinyllm.recipes.prompts import Prompt, read_prompts
from tinyllm.tokenizers import END_OF_TEXT, BPETokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS

RNG = np.random.default_rng(0)
HI = [{"role": "user", "content": "Hi"}]
SETTINGS = GenerationConfig(max_new_tokens=6, temperature=1.0)


@pytest.fixture(scope="module")
def model(tokenizer):
    return GPT(
        GPTConfig(vocab_size=tokenizer.vocab_size, block_size=32, n_layers=1, n_heads=2, d_model=8), rng=np.random.default_rng(0)
    ).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(
        [b"Hi there, this is a text. " * 9] * 9, vocab_size=300, special_tokens=(END_OF_TEXT, *CONTROL_TOKENS)
    )


def messages(path, n=None):
    return [prompt.messages for prompt in read_prompts(str(path), n=n, rng=RNG)]


def test_prompts_come_from_lines_records_and_conversations(tmp_path):
    (tmp_path / "a.txt").write_text("Hi\n\n  Hi  \n")
    assert messages(tmp_path / "a.txt") == [HI, HI] and messages(tmp_path / "a.txt", 1) == [HI]
    records = [{"prompt": "Hi", "chosen": "x"}, {"prompt": HI}, {"messages": [*HI, {"role": "assistant", "content": "Hello"}]}]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert messages(tmp_path / "b.jsonl") == [HI, HI, HI]
    (tmp_path / "c.json").write_text(json.dumps(records))
    assert messages(tmp_path / "c.json") == [HI, HI, HI]


def test_prompts_of_other_tools_are_read_and_what_is_left_out_is_said(tmp_path):
    records = [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "tools": [1]},
        {"conversations": [{"from": "bing", "value": "Hi"}]},
    ]
    (tmp_path / "A.JSONL").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(record).encode() for record in records))
    shown = []
    (prompt,) = read_prompts(str(tmp_path / "A.JSONL"), n=None, rng=RNG, show=shown.append)
    said = shown[0].text
    assert prompt.messages == HI
    assert "1 skipped: 1 with the unknown role 'bing' (first: line 2)" in said and "'tools' of 1 (first: line 1)" in said
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfHi\r\nA line\xe2\x80\xa8with a separator\x0cin it\rHi")
    assert [one[0]["content"] for one in messages(tmp_path / "b.txt")] == ["Hi", "A line\u2028with a separator\x0cin it", "Hi"]
    (tmp_path / "c.txt").write_bytes("Hi".encode("utf-16-le"))
    with pytest.raises(ValueError, match="c.txt is binary, or UTF-16"):
        messages(tmp_path / "c.txt")


@pytest.mark.parametrize(
    "name, text", [("a.txt", "\n"), ("a.jsonl", ""), ("a.jsonl", '{"text": "Hi"}'), ("a.jsonl", "Hi"), ("a.json", "{}")]
)
def test_a_file_without_prompts_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        messages(tmp_path / name)


def test_the_built_in_news_bring_their_story_along(model, tokenizer):
    prompts = read_prompts("news", n=3, rng=np.random.default_rng(0))
    assert len({prompt.messages[0]["content"] for prompt in prompts}) == 3
    wide = GPT(
        GPTConfig(vocab_size=tokenizer.vocab_size, block_size=400, n_layers=1, n_heads=2, d_model=8), rng=np.random.default_rng(0)
    ).eval()
    items = list(sample_items(wide, tokenizer, prompts[:1], n_answers=2, seed=0, config=SETTINGS))
    assert story_of(items[0]).request == items[0].prompt[0]["content"]


def test_answers_differ_among_each_other_and_repeat_with_the_seed(model, tokenizer):
    prompts = [Prompt(HI, "test"), Prompt(HI, "test")]
    one, two = (list(sample_items(model, tokenizer, prompts, n_answers=5, seed=0, config=SETTINGS)) for _ in range(2))
    assert one == two and len(set(one[0].answers)) > 1 and one[0].answers != one[1].answers
    other = list(sample_items(model, tokenizer, prompts, n_answers=5, seed=1, config=SETTINGS))
    assert [item.answers for item in other] != [item.answers for item in one]
    assert not any("<|" in answer for item in one for answer in item.answers), "control tokens have no text"


def test_an_answer_that_came_before_is_drawn_again_so_all_five_differ(model, tokenizer, monkeypatch):
    """Answers of one token at a low temperature: among five, some are the same."""
    prompts = [Prompt(HI, "test")] * 6
    short = {"n_answers": 5, "seed": 3, "config": GenerationConfig(max_new_tokens=1, temperature=0.04)}
    items = list(sample_items(model, tokenizer, prompts, **short))
    assert [len(set(item.answers)) for item in items] == [len(item.answers) for item in items] == [5] * 6
    assert items == list(sample_items(model, tokenizer, prompts, **short))
    monkeypatch.setattr(answers, "MOST_DRAWS", 1)
    assert min(len(item.answers) for item in sample_items(model, tokenizer, prompts, **short)) < 5


def test_a_model_with_one_answer_only_is_not_asked_for_ever_and_gives_no_item(model, tokenizer):
    for temperature in (0.0, 1e-5):
        alone = GenerationConfig(max_new_tokens=3, temperature=temperature)
        assert list(sample_items(model, tokenizer, [Prompt(HI, "test")], config=alone, n_answers=5, seed=0)) == []


def test_a_prompt_without_room_for_an_answer_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="model's context 32: no room to answer"):
        list(
            sample_items(
                model, tokenizer, [Prompt([{"role": "user", "content": "qz" * 40}], "test")], n_answers=2, seed=0, config=SETTINGS
            )
        )

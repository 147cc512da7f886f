"""Every example runs, with few steps, and shows the fact it was written for."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))


def load(stem: str):
    (path,) = [p for p in EXAMPLES if p.name.startswith(stem)]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may leave a picture where it is run


def test_there_are_examples_numbered_without_a_gap():
    assert [path.name[:2] for path in EXAMPLES] == [f"{i:02d}" for i in range(1, len(EXAMPLES) + 1)]


def test_autograd_finds_the_line_the_points_were_made_with():
    found = load("01").main()
    assert abs(found["w"] - 3) < 0.1 and abs(found["b"] + 0.5) < 0.1
    assert found["gradcheck"] < 1e-6


def test_a_trained_bigram_table_approaches_counting_from_above():
    found = load("02").main()
    assert found["counting"] <= found["loss"] < found["counting"] + 0.01


def test_bpe_packs_text_into_fewer_tokens_the_more_it_merges():
    few, more = (load("03").main(steps=steps)["bytes_per_token"] for steps in (50, 400))
    assert 1.2 < few < more


def test_attention_learns_to_look_up():
    assert load("04").main(steps=80)["accuracy"] > 0.95


def test_attention_begins_by_guessing():
    assert load("04").main(steps=1)["accuracy"] < 0.4


def test_a_gpt_learns_from_characters():
    found = load("05").main(steps=25)
    assert found["validation"] < 3.4  # ln of the alphabet is above 4.5


def test_greedy_repeats_itself_more_and_surprises_less_than_sampling():
    found = load("06").main(steps=25, n_texts=2)
    assert found["greedy"]["surprise"] < found["temperature 1"]["surprise"]
    assert len(found) == 8

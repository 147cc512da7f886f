"""The pictures of README: what was measured is what is drawn, and no text of a model becomes markup."""

import importlib.util
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hostile_pages import PAYLOADS

from tinyllm.models import GPT, GPTConfig
from tinyllm.tokenizers import ByteTokenizer

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures():
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_chat_is_drawn_as_it_was_word_by_word(pictures):
    turns = [("What is 2 times 3?", ["[calculator: 2*3 = 6]", "6"]), ("x" * 100, [" ".join(PAYLOADS)])]
    root = ElementTree.fromstring(pictures.chat_picture(turns))
    words = "".join(element.text or "" for element in root.iter(f"{SVG}tspan"))
    assert "What is 2 times 3?[calculator: 2*3 = 6]bot>6" in words and "x" * 100 in words.replace("you>", "")
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {"svg", "style", "rect", "text", "tspan"}


def test_what_the_picture_says_is_what_the_model_says(pictures, tmp_path):
    model = GPT(GPTConfig(257, block_size=64, n_layers=1, n_heads=1, d_model=8), rng=np.random.default_rng(0))
    model.save_pretrained(tmp_path, ByteTokenizer())
    turns = pictures.talk(str(tmp_path), ["Hi", "Who?"])
    assert [question for question, _ in turns] == ["Hi", "Who?"] and all(len(said) == 1 for _, said in turns)


def test_the_curve_has_a_dot_for_every_rollout(pictures, tmp_path):
    records = [{"step": i, "kl": i / 2, "score": i / 10, "gold": 1 - i / 10} for i in range(30)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    root = ElementTree.fromstring(pictures.far_picture(str(tmp_path)))
    assert len(list(root.iter(f"{SVG}circle"))) == 60
    assert "prefers-color-scheme:dark" in next(root.iter(f"{SVG}style")).text


def test_the_committed_pictures_are_whole_and_load_nothing():
    for name in ("chat.svg", "overoptimisation.svg"):
        text = (ROOT / "docs" / name).read_text("utf-8")
        ElementTree.fromstring(text)
        assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"') and "<script" not in text
    assert (ROOT / "docs" / "labeler.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_word_shows_how_it_is_used(pictures):
    with pytest.raises(SystemExit, match="docs/pictures.py chat runs/quickstart"):
        pictures.main(["paint"])

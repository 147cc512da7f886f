import json
import random
import time
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.tokenizers import BPETokenizer, load_tokenizer
from tinyllm.tokenizers.pretokenize import PATTERNS, get_pattern, pattern_from_regex

EXPECTED = json.loads((Path(__file__).parents[1] / "fixtures/tokenizers/expected.json").read_text(encoding="utf-8"))
every = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
# The characters on which the two patterns decide differently, close together.
tricky = st.text(st.sampled_from("'lLsSvVeErRdDmMtTſ a1٣²\t\n\r\u00a0\u3000\x1c\x85.!_é中🎉\u0301\x00\udc80"), max_size=16)


@pytest.mark.parametrize("pattern", [PATTERNS[name] for name in ("gpt2", "gpt4")], ids=["gpt2", "gpt4"])
def test_pieces_equal_hugging_faces(pattern):
    for text, expected in zip(EXPECTED["texts"], EXPECTED[pattern.name]["pieces"], strict=True):
        assert pattern.split(text) == expected


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("gpt2", "I'll pay 12345 now", ["I", "'ll", " pay", " 12345", " now"]),
        ("gpt4", "I'll pay 12345 now", ["I", "'ll", " pay", " ", "123", "45", " now"]),
        ("gpt2", "WE'LL", ["WE", "'", "LL"]),  # contractions in capitals are GPT-4's improvement
        ("gpt4", "WE'LL", ["WE", "'LL"]),
        ("gpt2", "if x:\n    y", ["if", " x", ":", "\n   ", " y"]),
        ("gpt4", "if x:\n    y", ["if", " x", ":\n", "   ", " y"]),
        ("gpt4", "a\n ", ["a", "\n", " "]),
        ("qwen2", "I'LL pay 12345 now\n ", ["I", "'LL", " pay", " ", "1", "2", "3", "4", "5", " now", "\n", " "]),
        ("qwen2", "x1y²٣½", ["x", "1", "y", "²", "٣", "½"]),
    ],
)
def test_pieces_by_hand(name, text, pieces):
    assert get_pattern(name).split(text) == pieces


@given(text=st.one_of(tricky, st.text(max_size=30)))
def test_qwen2_cuts_as_gpt4_does_and_then_cuts_numbers_into_digits(text):
    expected = []
    for piece in get_pattern("gpt4").split(text):
        expected += list(piece) if regex.fullmatch(r"\p{N}+", piece) else [piece]
    assert get_pattern("qwen2").split(text) == expected


@every
@given(text=st.one_of(tricky, st.text(max_size=30)))
def test_the_linear_pattern_equals_the_published_one_and_loses_nothing(pattern, text):
    pieces = pattern.split(text)
    assert "".join(pieces) == text
    for spelling in (pattern.published, *pattern.aliases):
        assert regex.findall(spelling, text) == pieces


@every
def test_random_texts_of_tricky_characters_are_cut_as_published(pattern):
    rng = random.Random(1)
    published = regex.compile(pattern.published)
    for _ in range(5000):
        text = "".join(rng.choices("'lsa1 \t\n\r.", k=rng.randint(1, 10)))
        assert pattern.split(text) == published.findall(text)


@every
@pytest.mark.parametrize("unit", ["^", "0", "a", "'s", " ", "\n", "'", " ^", " \n", "\r\n", "é", "\u3000", "\n a"])
def test_a_hundred_thousand_repetitions_are_cut_in_no_time(pattern, unit):
    for text in (unit * 100_000, " " + unit * 100_000 + "\n", unit * 100_000 + "x"):
        start = time.process_time()
        assert sum(map(len, pattern.split(text))) == len(text)
        assert time.process_time() - start < 2  # takes 0.05; quadratic backtracking would take hours


@every
def test_every_spelling_leads_back_to_its_pattern(pattern):
    for spelling in (pattern.published, pattern.linear, *pattern.aliases):
        assert pattern_from_regex(spelling) is pattern


def test_unknown_patterns_are_not_run():
    assert pattern_from_regex("(a+)+$") is None
    for name in ("gpt5", None, ["gpt2"]):
        with pytest.raises(ValueError, match="pattern: got .*expected one of 'gpt2', 'gpt4', 'gpt4o', 'qwen2', 'smollm'"):
            get_pattern(name)


def cut_by(expression, text):
    """The matches of an expression and what lies between them, as files' Split parts cut ("Isolated")."""
    found, place = [], 0
    for match in regex.finditer(expression, text):
        found += [text[place : match.start()], match.group()]
        place = match.end()
    return [piece for piece in [*found, text[place:]] if piece]


HARD = (
    " |  |\n|\r|a|Bc|é|中|あ|ー|゠|・|\u3099|\u3040|1|4567|!|'s|\u0301|🎉|\t|\0|\x01|\u00a0|½|\u3000|龦|、|$|_x|\u0600|\U000e0001"
)


@given(st.lists(st.sampled_from(HARD.split("|")), max_size=14))
def test_deepseeks_three_cuts_are_one(parts):
    text = "".join(parts)
    pattern = get_pattern("deepseek")
    pieces = [text]
    for expression in pattern.steps:
        pieces = [piece for one in pieces for piece in cut_by(expression, one)]
    assert pattern.split(text) == pieces


def test_a_file_with_three_cuts_is_written_and_read(tmp_path):
    tokenizer = BPETokenizer.train(["12345 中文あ ab ab, don't"] * 3, vocab_size=280, pattern="deepseek")
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).pattern.name == "deepseek"
    assert load_tokenizer(tmp_path).fingerprint() == tokenizer.fingerprint()

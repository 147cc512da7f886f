"""The kernels for words give what the plain tokenizers give: same ids for every text."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm import kernels
from tinyllm.tokenizers import compiled, load_tokenizer

HERE = Path(__file__).parents[1] / "fixtures" / "tokenizers" / "schemes"
NAMES = ["bert.json", "t5.json", "llama.json", "unigram.model", "unigram_bytes.model", "bpe.model"]
PARTS = [
    "the low",
    " ",
    "  ",
    "newest",
    "unaffable",
    "x" * 70,
    "==",
    "-",
    "\n",
    "中文",
    "é",
    "▁",
    "ﬁ",
    "🎉",
    "\x85",
    "'s",
    "a" * 101,
    "\udc80",
]

pytestmark = pytest.mark.skipif(not kernels.machine_code(), reason="the twins alone")


@pytest.fixture(autouse=True)
def _always(monkeypatch):
    monkeypatch.setattr(compiled, "LARGE", 1)
    monkeypatch.setattr(compiled, "MIDDLING", 0)


def twin(tokenizer, text):
    return tokenizer._encode_normal(tokenizer.normalizer(text), "start")


@pytest.mark.parametrize("name", NAMES)
def test_kernels_and_twins_agree(name):
    fast, plain = load_tokenizer(HERE / name), load_tokenizer(HERE / name)
    fast._normal_pattern = plain._normal_pattern = None  # an added token keeps the kernels out

    @settings(max_examples=120, deadline=None)
    @given(st.lists(st.text() | st.lists(st.sampled_from(PARTS), max_size=12).map("".join), max_size=6))
    def agree(texts):
        texts = [text for text in texts if not any("\ud800" <= c < "\udc80" or "\udcff" < c <= "\udfff" for c in text)]
        assert [ids.tolist() for ids in fast.encode_arrays(texts)] == [twin(plain, text) for text in texts]

    agree()
    assert fast._compiled._coder is not None


@pytest.mark.parametrize("name", NAMES)
def test_one_large_text_goes_to_the_kernels_too(name):
    fast, plain = load_tokenizer(HERE / name), load_tokenizer(HERE / name)
    fast._normal_pattern = plain._normal_pattern = None
    text = "the low sun ==== unknown 中 newest " * 40
    assert fast.encode(text) == twin(plain, text)
    assert fast._compiled._coder is not None and plain._compiled._coder is None


@pytest.mark.parametrize("name", ["bert.json", "bpe.model", "unigram.model"])
def test_a_long_text_is_shared_out_without_a_trace(name):
    fast, plain = load_tokenizer(HERE / name), load_tokenizer(HERE / name)
    fast._normal_pattern = plain._normal_pattern = None
    text = "the low sun ==== unknown 中 newest " * 70_000  # three parts
    assert fast.encode_arrays([text])[0].tolist() == twin(plain, text)


@pytest.mark.parametrize("name", ["bert.json", "bpe.model"])
def test_the_table_of_words_forgets_when_it_is_full(name):
    fast, plain = load_tokenizer(HERE / name), load_tokenizer(HERE / name)
    fast._normal_pattern = plain._normal_pattern = None
    text = " ".join(f"{i:x}low" for i in range(250_000))
    assert fast.encode_arrays([text])[0][-2000:].tolist() == twin(plain, text)[-2000:]

"""Words counted in machine code, on any number of threads and within little memory, are those that a pattern finds."""

import random
from collections import Counter

import numpy as np
import pytest

from tinyllm import kernels
from tinyllm.tokenizers.pretokenize import PATTERNS
from tinyllm.tokenizers.unicode_classes import character_classes
from tinyllm.tokenizers.word_counts import Words, count_pieces

pytestmark = pytest.mark.skipif(not kernels.machine_code(), reason="the plain form is what it is compared with")
PARTS = [
    " the", " lowest", "\n", "x" * 14, "y" * 15, "z" * 16, "w" * 70, " 12", "3", "don't", " \t ", "é",
    "中文", "\u0301", "🎉", "\0", "!",
    "?!", "abc\nabc", "a\n\nDef",
]  # fmt: skip


def counted(texts, pattern, memory=None, batch=7):
    from tinyllm.kernels.text.counting import PIECES, WordCounter

    counter = WordCounter(PIECES, character_classes(), cut=pattern.cut, memory=memory)
    for i in range(0, len(texts), batch):
        counter.add([text.encode("utf-8", "surrogateescape") for text in texts[i : i + batch]])
    letters, begins, counts = counter.words()
    data = letters.tobytes()
    found = [data[begins[k] : begins[k + 1] - 1] for k in range(len(counts))]
    assert len(set(found)) == len(found) and not data[begins[-1] :].strip(b"\0")
    return Counter(dict(zip(found, counts.tolist(), strict=True))), counter


@pytest.mark.parametrize("name", [name for name, pattern in PATTERNS.items() if pattern.cut])
def test_words_are_the_patterns(name):
    rng = random.Random(name)
    texts = ["".join(rng.choices(PARTS, k=rng.randint(0, 60))) for _ in range(60)] + ["", "\udc80\udcff a"]
    assert counted(texts, PATTERNS[name])[0] == count_pieces(texts, PATTERNS[name].split)


def test_little_memory_gives_the_same_counts(monkeypatch):
    from tinyllm.kernels.text import counting

    monkeypatch.setattr(counting, "PART", 1 << 12)
    rng = random.Random(0)
    texts = ["".join(f" {rng.getrandbits(24):06x}" + "q" * rng.choice([0, 0, 12]) for _ in range(4000)) for _ in range(12)]
    found, counter = counted(texts, PATTERNS["gpt4"], memory=1 << 20, batch=1)
    assert counter.files and found == count_pieces(texts, PATTERNS["gpt4"].split)


def test_a_text_without_a_seam_and_many_words():
    text = "x" * 3_000_000 + " ".join(map(str, range(100_000)))
    assert counted([text, text], PATTERNS["gpt4"])[0] == count_pieces([text, text], PATTERNS["gpt4"].split)


def test_a_row_of_symbols():
    words = Words.of({b"ab": 3, b"c\0d": 1})
    symbols, weights = words.row(np.arange(256, dtype=np.int32))
    assert symbols.tolist() == [-1, 97, 98, -1, 99, 0, 100, -1]
    assert weights.tolist()[1:3] == [3, 3] and weights.tolist()[4:7] == [1, 1, 1]
    assert words.texts() == ["ab", "c\0d"]

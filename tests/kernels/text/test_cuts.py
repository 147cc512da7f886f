"""The kernels cut text exactly where the regular expressions do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm.kernels.jit import jit
from tinyllm.kernels.pointers import start
from tinyllm.kernels.text.characters import PADDING
from tinyllm.kernels.text.cuts import piece_end
from tinyllm.kernels.text.patterns import Cut
from tinyllm.tokenizers.pretokenize import PATTERNS
from tinyllm.tokenizers.unicode_classes import character_classes

KNOWN = {name: pattern for name, pattern in PATTERNS.items() if pattern.cut}
every = pytest.mark.parametrize("pattern", KNOWN.values(), ids=KNOWN)
TRICKY = "'lLsSvVeErRdDmMtTſ a1٣²\t\n\r\u00a0\u3000\x1c\x85.!/_é中ˈʰǅ🎉\u0301\u0903\x00\udc80\udcc3\udce4\udcff Aあア²Ⅷª"


@jit
def find_ends(text, n, rules, classes, out):
    cut = Cut(rules[0], rules[1], rules[2], rules[3], rules[4], rules[5], rules[6])
    i = count = 0
    while i < n:
        i = piece_end(start(text), i, n, start(classes), cut)
        out[count] = i
        count += 1
    return count


def pieces_of(pattern, text):
    data = text.encode("utf-8", "surrogateescape")
    out = np.empty(len(data) + 1, np.int64)
    padded = np.frombuffer(data + bytes(PADDING), np.uint8)
    n = find_ends(padded, len(data), np.array(pattern.cut, np.int64), character_classes(), out)
    ends = [0, *out[:n].tolist()]
    return [data[a:b].decode("utf-8", "surrogateescape") for a, b in zip(ends, ends[1:], strict=False)]


@every
@settings(max_examples=400)
@given(text=st.one_of(st.text(st.sampled_from(TRICKY), max_size=16), st.text(max_size=30)))
def test_pieces_are_those_of_the_regular_expression(pattern, text):
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")  # escaped bytes may make a character
    assert pieces_of(pattern, text) == pattern.split(text)


@every
def test_every_character_alone_and_between_others(pattern):
    """Over all of Unicode, so that a class of characters that is missing in the table would be seen."""
    for first in range(0, 0x110000, 0x1000):
        characters = [chr(code) for code in range(first, first + 0x1000) if not 0xD800 <= code < 0xE000]
        for form in ("{}", "a{}b", " {}", "{}1", "A{}"):
            text = "\n|".join(map(form.format, characters))
            assert pieces_of(pattern, text) == pattern.split(text), (hex(first), form)


@every
@settings(max_examples=200)
@given(data=st.binary(max_size=24))
def test_bytes_that_are_no_utf8_are_symbols_of_one_byte(pattern, data):
    text = data.decode("utf-8", "surrogateescape")
    assert pieces_of(pattern, text) == pattern.split(text)


@every
@pytest.mark.parametrize(
    "data",
    [b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\xaf", b"\xf0\x80\x80\x80", b"\xe4\xb8", b"a\xf0\x9f\x8e"],
)
def test_what_only_looks_like_utf8_is_none(pattern, data):
    """Written too long, half of a surrogate pair, beyond Unicode, cut off."""
    text = data.decode("utf-8", "surrogateescape")
    assert pieces_of(pattern, text) == pattern.split(text)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.text.documents import Source, cut_at_paragraphs, document_size_for, limit_bytes, without_duplicates


@given(st.binary(max_size=3000) | st.text("ab \n\té漢", max_size=1500).map(str.encode), st.integers(1, 300))
def test_pieces_joined_are_the_text_again(text, size):
    pieces = cut_at_paragraphs(text, size)
    assert b"".join(pieces) == text
    assert all(pieces)


@given(st.text("a \né漢😀", max_size=1500), st.integers(4, 200))
def test_no_character_is_cut_in_two(text, size):
    for piece in cut_at_paragraphs(text.encode(), size):
        piece.decode()


def test_documents_end_at_blank_lines():
    text = b"\n\n".join([b"word " * 9] * 50)
    pieces = cut_at_paragraphs(text, 100)
    assert all(piece.endswith(b"\n\n") for piece in pieces[:-1])
    assert all(100 <= len(piece) < 200 for piece in pieces[:-1])


def test_windows_line_ends_count_as_blank_lines():
    assert cut_at_paragraphs(b"aaaa\r\n\r\nbbbb\r\n\r\ncc", 5) == [b"aaaa\r\n\r\n", b"bbbb\r\n\r\n", b"cc"]


def test_without_blank_lines_a_document_ends_at_a_line_end():
    assert cut_at_paragraphs(b"aaa\nbbb\nccc\nddd", 5) == [b"aaa\nbbb\n", b"ccc\nddd"]


def test_a_short_text_is_cut_into_about_twenty_documents_of_at_least_256_bytes():
    assert [document_size_for(n) for n in (100, 20_000, 10**6, 10**9)] == [256, 1000, 8192, 8192]


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=20), st.integers(1, 200))
def test_a_limited_source_stays_under_its_limit_and_in_order(documents, max_bytes):
    source = Source("s", tuple(documents))
    limited = limit_bytes(source, max_bytes)
    assert 0 < limited.n_bytes <= max_bytes
    assert limit_bytes(source, max_bytes) == limited
    if limited.n_bytes == source.n_bytes:
        assert limited == source
    elif all(d in documents for d in limited.documents):
        order = iter(documents)
        assert all(any(d == other for other in order) for d in limited.documents)


def test_duplicates_are_dropped_in_order():
    assert without_duplicates([b"b", b"a", b"b", b"c", b"a"]) == (b"b", b"a", b"c")


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match="size must be at least 1 byte, got 0"):
        cut_at_paragraphs(b"abc", 0)
    with pytest.raises(ValueError, match="max_bytes must be at least 1, got 0"):
        limit_bytes(Source("s", (b"abc",)), 0)

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.storage.json_lines import append_line, read_lines, write_lines
from tinyllm.storage.lock import lock

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
)


def values(path):
    return [line.value for line in read_lines(path) if line.error is None]


@given(st.lists(VALUES, max_size=5))
def test_lines_come_back_in_order_added_one_by_one_or_at_once(tmp_path_factory, written):
    folder = tmp_path_factory.mktemp("lines")
    for value in written:
        append_line(folder / "one", value)
    write_lines(folder / "all", written)
    assert values(folder / "one") == values(folder / "all") == written
    assert [line.number for line in read_lines(folder / "all")] == list(range(1, len(written) + 1))


def test_a_file_that_is_not_there_has_no_lines(tmp_path):
    assert list(read_lines(tmp_path / "none")) == []


def test_a_line_torn_at_any_byte_keeps_to_itself(tmp_path):
    path = tmp_path / "log"
    write_lines(path, [{"a": 1}, {"b": "ü"}])
    whole = path.read_bytes()
    for end in range(len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:end])
        append_line(path, {"c": 3})
        found = list(read_lines(path))
        assert [line.torn for line in found] == [False, True, False] and values(path) == [{"a": 1}, {"c": 3}], end
        assert "line 2" in str(found[1].error)
    path.write_bytes(whole[:-1])  # torn behind the last brace: nothing is lost
    append_line(path, {"c": 3})
    assert values(path) == [{"a": 1}, {"b": "ü"}, {"c": 3}]


def test_what_is_no_json_is_told_from_what_was_torn(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'hello\n\0\0\0\n{"a": 1, "a": 2}\n\n[1]\n')
    assert [(line.number, line.value, line.torn) for line in read_lines(path)] == [
        (1, None, False), (2, None, True), (3, None, True), (5, [1], False)]  # fmt: skip


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path, write = tmp_path / "log", os.write
    append_line(path, {"a": 1})
    before = path.read_bytes()
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with pytest.raises(OSError, match="the disk took 3 of"):
        append_line(path, {"b": 2})
    assert path.read_bytes() == before


def test_a_value_that_json_cannot_say_changes_nothing(tmp_path):
    append_line(tmp_path / "log", {"a": 1})
    with pytest.raises(ValueError):
        append_line(tmp_path / "log", {"a": float("nan")})
    with pytest.raises(ValueError):
        write_lines(tmp_path / "log", [{"a": 2}, {"a": float("inf")}])
    assert values(tmp_path / "log") == [{"a": 1}]


def test_a_lock_lasts_until_its_file_is_closed(tmp_path):
    path = tmp_path / "lock"
    with open(path, "a+") as one, open(path, "a+") as other:
        lock(one.fileno())
        with pytest.raises(OSError):
            lock(other.fileno())
        one.close()
        lock(other.fileno())
        with open(path, "a+") as third, pytest.raises(OSError):
            lock(third.fileno())

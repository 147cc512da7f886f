"""The label file: nothing acknowledged is lost, nothing is there twice, nothing of another prompt set gets in."""

import dataclasses
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.labels import Item, Label, LabelStore, read_labels

ITEMS = [Item("a", "Hi", ("x", "y", "z")), Item("b", "Bye", ("x", "y", "z"))]
NO = (False, False, False)


def label(key, *, item=ITEMS[0], labeler="anna", ratings=(1, 7, 7), **more):
    return Label(
        item=item.id,
        fingerprint=item.fingerprint,
        labeler=labeler,
        ratings=ratings,
        order=(2, 0, 1),
        toxic=NO,
        made_up=(True, False, False),
        not_following=NO,
        key=key,
        **more,
    )


def keys(path):
    return [one.key for one in read_labels(path).labels]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.jsonl"


def test_labels_come_back_as_they_were_saved(path):
    with LabelStore(path, ITEMS) as store:
        saved = store.extend([label("1"), label("2", item=ITEMS[1], ratings=None), label("3", repetition=1)])
    found = read_labels(path, ITEMS)
    assert list(found.labels) == saved and (found.n_duplicates, found.n_torn) == (0, 0)
    assert saved[0].time > 1.7e9 and saved[1].skipped and not saved[0].skipped
    assert path.read_bytes().count(b"\n") == 3


def test_the_newest_label_of_a_place_counts_and_knows_how_many_it_replaces(path):
    with LabelStore(path, ITEMS) as store:
        store.extend([label("1"), label("2", ratings=(3, 3, 3)), label("3", labeler="ben"), label("4", repetition=1)])
        last = store.append(label("5", ratings=(5, 5, 5)))
    assert last.revision == 2
    with LabelStore(path, ITEMS) as store:
        assert store.newest["anna", "a", 0] == last and len(store.newest) == 3
    assert len(read_labels(path).labels) == 5, "history is kept"


def test_a_key_is_written_once_also_after_opening_again(path):
    with LabelStore(path, ITEMS) as store:
        first = store.append(label("1"))
        assert store.append(label("1")) == first
    with LabelStore(path, ITEMS) as store:
        assert store.append(label("1")) == first
        with pytest.raises(ValueError, match="key '1' was used for another label"):
            store.append(label("1", ratings=(2, 2, 2)))
    assert keys(path) == ["1"]


def test_a_line_copied_by_hand_counts_once(path):
    with LabelStore(path, ITEMS) as store:
        store.append(label("1"))
    path.write_bytes(path.read_bytes() * 3)
    assert read_labels(path).n_duplicates == 2 and keys(path) == ["1"]


def test_a_record_torn_at_any_byte_is_closed_off_and_the_rest_stays(path):
    with LabelStore(path, ITEMS) as store:
        store.extend([label("1"), label("2")])
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for end in (*range(start + 1, len(whole) - 3, 5), len(whole) - 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        is_whole = end == len(whole) - 1  # all but the line's end
        with LabelStore(path, ITEMS) as store:
            assert store.n_torn == (0 if is_whole else 1)
            store.append(label("2"))
            store.append(label("3"))
        assert keys(path) == ["1", "2", "3"], end
        assert read_labels(path).n_torn == (0 if is_whole else 1)


def test_zeros_that_a_power_cut_left_are_passed_over(path):
    with LabelStore(path, ITEMS) as store:
        store.append(label("1"))
    with open(path, "ab") as file:
        file.write(b"\0" * 300)
    with LabelStore(path, ITEMS) as store:
        assert store.n_torn == 1
        store.append(label("2"))
    assert keys(path) == ["1", "2"]


@given(tail=st.binary(max_size=60))
def test_whatever_follows_saved_labels_takes_none_of_them_away(tmp_path_factory, tail):
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    with LabelStore(path, ITEMS) as store:
        store.append(label("1"))
    content = path.read_bytes() + tail
    path.write_bytes(content)
    try:
        with LabelStore(path, ITEMS) as store:
            store.append(label("2"))
        assert keys(path) == ["1", "2"]
    except ValueError:  # not a label file any more: refused, and left as it is
        assert path.read_bytes() == content


def test_each_record_is_one_write_and_is_synced_before_append_returns(path, monkeypatch):
    calls = []
    with LabelStore(path, ITEMS) as store:
        write, sync = os.write, os.fsync
        monkeypatch.setattr(os, "write", lambda fd, data: calls.append(("write", data)) or write(fd, data))
        monkeypatch.setattr(os, "fsync", lambda fd: calls.append(("sync", b"")) or sync(fd))
        store.append(label("1"))
        assert [name for name, _ in calls] == ["write", "sync"] and calls[0][1].endswith(b"}\n")
        store.append(label("1"))
        assert [name for name, _ in calls] == ["write", "sync", "sync"], "a retry is told saved, so it waits for the disk as well"


def test_what_a_full_disk_took_is_taken_back(path, monkeypatch):
    write = os.write
    with LabelStore(path, ITEMS) as store:
        store.append(label("1"))
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:20]))
        with pytest.raises(OSError, match="the disk took 20 of"):
            store.append(label("2"))
        monkeypatch.setattr(os, "write", write)
        store.append(label("2"))
    assert keys(path) == ["1", "2"] and read_labels(path).n_torn == 0


def test_after_a_failed_sync_nothing_more_is_called_saved(path, monkeypatch):
    def fail(fd):
        raise OSError(5, "Input/output error")

    with LabelStore(path, ITEMS) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(OSError, match="Input/output"):
                store.append(label("1"))
        with pytest.raises(OSError, match="closed"):
            store.append(label("1"))
    with LabelStore(path, ITEMS) as store:
        store.append(label("1"))
    assert keys(path) == ["1"]


def test_two_cannot_write_the_same_file(path):
    code = "import sys; from tinyllm.labels import *; LabelStore(sys.argv[1], [Item('a', 'Hi', ('x', 'y', 'z'))])"
    with LabelStore(path, ITEMS):
        with pytest.raises(ValueError, match="open in another process"):
            LabelStore(path, ITEMS)
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
        assert "open in another process" in done.stderr
        assert read_labels(path).labels == (), "reading is always possible"
    assert subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True).returncode == 0


def test_labels_of_another_prompt_set_are_refused(path):
    with LabelStore(path, ITEMS) as store:
        store.append(label("1"))
        with pytest.raises(ValueError, match="not among the 2 items: these labels are from another prompt set"):
            store.append(label("2", item=Item("c", "Hi", ("x", "y", "z"))))
    changed = Item("a", "Hi!", ("x", "y", "z"))
    for open_file in (LabelStore, read_labels):
        with pytest.raises(ValueError, match=r"line 1: item 'a' had other texts .* another prompt set"):
            open_file(path, [changed])
        with pytest.raises(ValueError, match=r"line 1: the label is of item 'a', not among"):
            open_file(path, ITEMS[1:])
    assert len(read_labels(path, [*ITEMS, Item("new", "more", ("x", "y"))]).labels) == 1, "items may be added"


@pytest.mark.parametrize(
    "content, text",
    [(b"Dear diary\n", "valid JSON"), (b"[1]\n", "an object"), (b'{"a": 1}\n', "unknown key"), (b"\xff\xfe\n", "UTF-8")],
)
def test_a_file_that_holds_something_else_is_refused_and_left_alone(path, content, text):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"line 1.*{text}"):
        LabelStore(path, ITEMS)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "change, text",
    [
        ({"ratings": (0, 1, 2)}, "whole numbers from 1 to 7"),
        ({"ratings": (1, 2)}, "expected 3 whole numbers"),
        ({"ratings": (1, 2, True)}, "whole numbers"),
        ({"ratings": (1, 2, 3.0)}, "whole numbers"),
        ({"order": (0, 1, 1)}, "order is"),
        ({"toxic": (0, 1, 0)}, "true or false"),
        ({"labeler": " anna"}, "labeler is"),
        ({"labeler": "a\nb"}, "labeler is"),
        ({"labeler": "a" * 81}, "labeler is"),
        ({"repetition": 2}, "repetition is"),
        ({"key": ""}, "key is"),
    ],
)
def test_a_label_whose_parts_do_not_fit_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        dataclasses.replace(label("1"), **change)

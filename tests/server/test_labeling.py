"""The labeler's work: what comes when, in which order, and that a label lands on the answers that were meant."""

import os

import pytest
from labeler_server import NO, make_items, said

from tinyllm.labels import LabelStore, read_labels
from tinyllm.server import Labeling, Refused
from tinyllm.server.labeling import make_schedule, shown_order


def refusal(call, status):
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.status == status
    return caught.value.text


def test_the_first_of_every_group_comes_again_after_its_last():
    names = [(item.id, repetition) for item, repetition in make_schedule(make_items(7), 3)]
    assert names == [
        ("item-0", 0),
        ("item-1", 0),
        ("item-2", 0),
        ("item-0", 1),
        ("item-3", 0),
        ("item-4", 0),
        ("item-5", 0),
        ("item-3", 1),
        ("item-6", 0),
    ]
    assert len(make_schedule(make_items(7), 0)) == 7


def test_the_order_is_shuffled_anew_for_each_labeler_item_and_repetition_and_stays(items):
    orders = [tuple(shown_order(name, item, repetition)) for name in ("anna", "ben") for item in items for repetition in (0, 1)]
    assert len(set(orders)) > 15 and all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert orders == [
        tuple(shown_order(name, item, repetition)) for name in ("anna", "ben") for item in items for repetition in (0, 1)
    ]


def test_every_place_holds_every_answer_about_equally_often():
    orders = [shown_order(f"labeler {i}", item, 0) for i in range(100) for item in make_items(5)]
    for place in range(5):
        counts = [sum(order[place] == answer for order in orders) for answer in range(5)]
        assert all(60 < count < 140 for count in counts), counts  # 100 expected, 9 the standard deviation


def test_ratings_and_flags_land_on_the_answers_that_were_shown(labeling, items, path):
    task = labeling.task("anna")
    ratings = {text: rating for rating, text in enumerate(task["answers"], start=1)}
    labeling.save("anna", said(task, toxic=[True, False, False, False, False]))
    label = read_labels(path, items).labels[0]
    assert [ratings[text] for text in items[0].answers] == list(label.ratings)
    assert items[0].answers[label.toxic.index(True)] == task["answers"][0]
    assert [items[0].answers[i] for i in label.order] == task["answers"]


def test_going_back_shows_what_was_said_and_replaces_it(labeling, store):
    task = labeling.task("anna")
    labeling.save("anna", said(task, ratings=(5, 4, 3, 2, 1), toxic=[False, True, False, False, False]))
    again = labeling.task("anna", 0)
    assert again["label"] == {
        "ratings": [5, 4, 3, 2, 1],
        "toxic": [False, True, False, False, False],
        "made_up": NO,
        "not_following": NO,
    }
    assert labeling.save("anna", said(again, "key-00000002", ratings=None))["revision"] == 1
    assert labeling.task("anna", 0)["label"]["ratings"] is None and len(store.newest) == 1


def test_work_goes_on_at_the_first_that_is_open_and_ends_when_none_is(labeling):
    for number in range(8):
        task = labeling.task("anna")
        assert task["position"] == number
        labeling.save("anna", said(task, f"key-{number:08d}"))
    done = labeling.task("anna")
    assert done["finished"] and done["progress"]["done"] == done["progress"]["total"] == 8
    assert labeling.task("anna", 8)["finished"] and not labeling.task("anna", 7)["finished"]
    assert labeling.task("ben")["position"] == 0


def test_agreement_is_shown_with_oneself_and_with_others(labeling, items):
    for name in ("anna", "ben"):
        for position in range(4):
            task = labeling.task(name)
            ratings = [1 + int(text[-1]) for text in task["answers"]]  # by the text: both agree whatever the order
            labeling.save(name, said(task, f"{name}-{position:08d}", ratings=ratings))
    progress = labeling.progress("anna")
    assert progress["self"] == {"items": 1, "kappa": 1.0, "same_order": 1.0}
    assert progress["others"] == [{"labeler": "ben", "items": 3, "kappa": 1.0, "same_order": 1.0}]
    assert labeling.progress("cleo")["self"] == {"items": 0, "kappa": None, "same_order": None}


def test_what_the_page_shows_must_be_what_is_labeled(labeling, path):
    task = labeling.task("anna")
    assert "items have changed" in refusal(lambda: labeling.save("anna", said(task, task="0" * 16)), 409)
    refusal(lambda: labeling.save("anna", said(task, position=1)), 409)
    refusal(lambda: labeling.save("ben", said(task)), 409)
    refusal(lambda: labeling.save("anna", said(task, position=8)), 409)
    refusal(lambda: labeling.save("anna", said(task, ratings=(1, 2))), 400)
    refusal(lambda: labeling.save("anna", said(task, toxic=[True])), 400)
    refusal(lambda: labeling.task(" anna"), 400)
    refusal(lambda: labeling.task("an\u202ena"), 400)
    assert path.read_bytes() == b""


def test_a_retry_is_told_saved_and_a_key_for_something_else_is_refused(labeling, path):
    task = labeling.task("anna")
    first = labeling.save("anna", said(task))
    assert labeling.save("anna", said(task)) == first
    assert "used for another label" in refusal(lambda: labeling.save("anna", said(task, ratings=None)), 409)
    assert path.read_bytes().count(b"\n") == 1


def test_a_disk_that_fails_is_never_called_saved(labeling, monkeypatch):
    def fail(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    task = labeling.task("anna")
    assert "not saved: No space left" in refusal(lambda: labeling.save("anna", said(task)), 507)


def test_bad_settings_are_named(items, tmp_path):
    with LabelStore(tmp_path / "l.jsonl", items) as store:
        for value in (-1, 1):
            with pytest.raises(ValueError, match="repeat_every"):
                Labeling(items, store, repeat_every=value)
        with pytest.raises(ValueError, match="items is empty"):
            Labeling([], store)

"""Ratings to pairs, and pairs to labels."""

import pytest

from tinyllm.data.conversations.preferences import Preference, read_preferences, write_preferences
from tinyllm.labels import Item, LabelStore, read_labels
from tinyllm.labels.pairs import labels_from_pairs, pairs_from_labels
from tinyllm.labels.store import Label

ITEM = Item("a", "Hi", ("v", "w", "x", "y", "z"))
NO = (False,) * 5


def label(ratings, *, item=ITEM, labeler="anna", repetition=0):
    return Label(
        item=item.id,
        fingerprint=item.fingerprint,
        labeler=labeler,
        ratings=ratings,
        order=tuple(range(5)),
        toxic=NO,
        made_up=NO,
        not_following=NO,
        key="k",
        repetition=repetition,
    )


def pairs_of(*labels, items=(ITEM,)):
    return pairs_from_labels({one.place: one for one in labels}, items)


def test_five_different_ratings_give_all_ten_pairs_with_their_distance():
    pairs, report = pairs_of(label((1, 2, 3, 5, 7)))
    assert len(pairs) == report.n_pairs == 10
    rating = dict(zip("vwxyz", (1, 2, 3, 5, 7), strict=True))
    assert all(rating[pair.chosen] - rating[pair.rejected] == pair.margin > 0 for pair in pairs)
    assert {frozenset((pair.chosen, pair.rejected)) for pair in pairs} == {
        frozenset((a, b)) for a in "vwxyz" for b in "vwxyz" if a != b
    }
    assert pairs[0] == Preference([{"role": "user", "content": "Hi"}], "w", "v", margin=1.0, source="anna")


def test_what_is_left_out_is_counted():
    same = Item("b", "Hi", ("v", "v", "", "y", "z"))
    pairs, report = pairs_of(
        label((4, 4, 4, 4, 5)),
        label(None, labeler="ben"),
        label((1, 2, 3, 4, 5), repetition=1),
        label((1, 2, 3, 3, 5), item=same),
        items=(ITEM, same),
    )
    assert (report.n_ties, report.n_skipped, report.n_repeated, report.n_same_text, report.n_empty) == (6 + 1, 1, 1, 1, 3)
    assert report.n_pairs == len(pairs) == 4 + 10 - 1 - 1 - 3
    assert "7 ties" in str(report) and "1 skipped" in str(report)


def test_pairs_of_one_prompt_stand_together_whatever_the_order_of_labels():
    other = Item("b", "Bye", ITEM.answers)
    pairs, _ = pairs_of(
        label((1, 2, 3, 4, 5)), label((1, 2, 3, 4, 5), item=other), label((1, 1, 1, 1, 2), labeler="ben"), items=(ITEM, other)
    )
    prompts = [pair.prompt[0]["content"] for pair in pairs]
    assert prompts == ["Hi"] * 14 + ["Bye"] * 10


def test_a_label_of_another_prompt_set_is_refused():
    with pytest.raises(ValueError, match="'a' is labeled but not among the items"):
        pairs_of(label((1, 2, 3, 4, 5)), items=(Item("b", "Hi", ("v", "w")),))


def test_pairs_survive_the_way_through_labels_and_files(tmp_path):
    prompt = [{"role": "user", "content": "Hi"}]
    pairs = [Preference(prompt, f"good {i}", f"bad {i}", margin=float(i + 1), source="web") for i in range(6)]
    items, labels = labels_from_pairs(pairs, labeler="web")
    assert [one.ratings for one in labels[:2]] == [(4, 3), (3, 5)], "which one comes first alternates"
    with LabelStore(tmp_path / "labels.jsonl", items) as store:
        store.extend(labels)
    again, _ = pairs_from_labels(read_labels(tmp_path / "labels.jsonl", items).newest(), items)
    assert again == pairs
    write_preferences(tmp_path / "pairs.jsonl", again)
    assert read_preferences(tmp_path / "pairs.jsonl")[0] == pairs


@pytest.mark.parametrize("margin, distance", [(None, 1), (0.2, 1), (3.4, 3), (6.0, 6), (100.0, 6)])
def test_a_margin_that_is_no_distance_of_ratings_becomes_the_nearest(margin, distance):
    _, labels = labels_from_pairs([Preference([{"role": "user", "content": "Hi"}], "a", "b", margin=margin)], labeler="web")
    chosen, rejected = labels[0].ratings
    assert chosen - rejected == distance

"""A labeler with a known taste: repeatable, as noisy as it says, and its best possible accuracy is what is measured."""

import itertools
import math

import numpy as np
import pytest

from tinyllm.labels import Item, LabelStore, SimulatedLabeler, expected_pair_accuracy, expected_rating_accuracy, read_labels
from tinyllm.labels.simulated_labeler import THRESHOLDS, rating_probabilities, thresholds_around


def make(n=300, seed=0):
    rng = np.random.default_rng(seed)
    golds = {f"{i}-{k}": float(rng.standard_normal()) for i in range(n) for k in range(5)}
    items = [Item(str(i), "Hi", tuple(f"{i}-{k}" for k in range(5))) for i in range(n)]
    return items, lambda item, answer: golds[answer]


def test_without_noise_ratings_are_the_truth_cut_at_the_thresholds():
    values = dict(zip("abcde", (-2.0, -1.0, 0.0, 0.95, 3.0), strict=True))
    label = SimulatedLabeler("sim", lambda item, answer: values[answer], noise=0).label(Item("i", "Hi", tuple("abcde")))
    assert label.ratings == (1, 2, 4, 6, 7) and sorted(label.order) == [0, 1, 2, 3, 4]


def test_a_label_depends_on_seed_name_item_and_repetition_and_on_nothing_before():
    items, gold = make(20)
    labeler = SimulatedLabeler("sim", gold, noise=1.0)
    labels = [labeler.label(item) for item in items]
    assert [labeler.label(item) for item in reversed(items)] == labels[::-1]
    for other in (SimulatedLabeler("sim", gold, noise=1.0, seed=1), SimulatedLabeler("tim", gold, noise=1.0)):
        assert [other.label(item).ratings for item in items] != [one.ratings for one in labels]
    again = [labeler.label(item, repetition=1) for item in items]
    assert [one.ratings for one in again] != [one.ratings for one in labels]
    assert len({one.key for one in labels + again}) == 40


def test_labels_go_through_the_store_and_a_second_run_adds_nothing(tmp_path):
    items, gold = make(12)
    path = tmp_path / "labels.jsonl"
    labeler = SimulatedLabeler("sim", gold)
    for _ in range(2):
        with LabelStore(path, items) as store:
            assert len(labeler.label_all(items, store, repeat_every=5)) == 12 + 3
    found = read_labels(path, items)
    assert len(found.labels) == 15 and found.n_duplicates == 0 and sum(one.repetition for one in found.labels) == 3


def measured(items, gold, noise):
    """Share of a labeler's decided pairs that agree with the truth."""
    right = decided = 0
    for name in "abc":
        labeler = SimulatedLabeler(name, gold, noise=noise)
        for item in items:
            ratings = labeler.label(item).ratings
            for i, j in itertools.combinations(range(5), 2):
                if ratings[i] != ratings[j]:
                    decided += 1
                    right += (ratings[i] > ratings[j]) == (gold(item, item.answers[i]) > gold(item, item.answers[j]))
    return right / decided


@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0, 2.0])
def test_the_expected_accuracy_is_the_one_that_is_measured(noise):
    items, gold = make()
    expected = expected_rating_accuracy([[gold(item, answer) for answer in item.answers] for item in items], noise)
    assert measured(items, gold, noise) == pytest.approx(expected, abs=0.012)  # 9000 pairs: two standard errors


def test_expected_pair_accuracy_is_phi_of_the_distance():
    assert expected_pair_accuracy([math.sqrt(2)], 1.0) == pytest.approx(0.8413447460685429, abs=1e-12)  # Φ(1)
    assert expected_pair_accuracy([0.0, -1.0], 0.0) == 0.75
    assert expected_pair_accuracy([1.0, -1.0], 1e9) == pytest.approx(0.5)
    assert math.isnan(expected_pair_accuracy([], 1.0)) and math.isnan(expected_rating_accuracy([[1.0]], 1.0))
    rng = np.random.default_rng(0)
    a, b, noise = 0.3, 1.1, 0.7
    draws = rng.standard_normal((2, 200_000)) * noise
    assert np.mean(b + draws[0] > a + draws[1]) == pytest.approx(expected_pair_accuracy([b - a], noise), abs=0.004)


def test_rating_probabilities_sum_to_one_and_are_steps_without_noise():
    chances = rating_probabilities([-2.0, 0.0, 9.0], 0.8)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, atol=1e-12)
    assert (chances >= 0).all()
    assert rating_probabilities([-2.0, 0.0, 9.0], 0.0).argmax(axis=1).tolist() == [0, 3, 6]


def test_thresholds_follow_a_gold_of_any_scale():
    golds = np.random.default_rng(0).standard_normal(5000)
    np.testing.assert_allclose(thresholds_around(10 * golds + 3), 10 * np.array(thresholds_around(golds)) + 3)
    np.testing.assert_allclose(thresholds_around(golds), THRESHOLDS, atol=0.1)
    assert thresholds_around([2.0, 2.0])[0] < 2 < thresholds_around([2.0, 2.0])[-1]


def test_true_flags_are_overlooked_as_often_as_miss_says():
    items, gold = make(400)
    flags = {"toxic": lambda item, answer: answer.endswith("0")}
    labels = [SimulatedLabeler("sim", gold, flags=flags, miss=0.25).label(item) for item in items]
    assert np.mean([one.toxic[0] for one in labels]) == pytest.approx(0.75, abs=0.06)
    assert not any(any(one.toxic[1:]) or any(one.made_up) for one in labels)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"noise": -1}, "noise"),
        ({"noise": math.nan}, "noise"),
        ({"thresholds": (1, 2, 3)}, "six rising"),
        ({"thresholds": (1, 2, 3, 3, 4, 5)}, "six rising"),
        ({"miss": 1.5}, "probability"),
        ({"flags": {"rude": lambda item, answer: True}}, "rude"),
        ({"name": ""}, "labeler"),
    ],
)
def test_bad_settings_are_named(change, text):
    with pytest.raises(ValueError, match=text):
        SimulatedLabeler(**{"name": "sim", "gold": lambda item, answer: 0.0, **change})


def test_a_gold_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="gold of item 'i' is nan"):
        SimulatedLabeler("sim", lambda item, answer: math.nan).label(Item("i", "Hi", ("a", "b")))

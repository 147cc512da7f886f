"""Cohen's kappa: against a computation by hand, against a twin in plain NumPy, and where it has no value."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.labels import Item, agreement_between, cohen_kappa, labelers, self_agreement
from tinyllm.labels.agreement import confusion_matrix
from tinyllm.labels.store import Label

ITEM = Item("a", "Hi", ("x", "y", "z"))
NO = (False, False, False)
WEIGHTS = (None, "linear", "quadratic")


def twin(first, second, categories, weights):
    """κ_w = 1 - Σ w O / Σ w E, element by element."""
    n, k = len(first), len(categories)
    above = below = 0.0
    for i in range(k):
        for j in range(k):
            w = {None: float(i != j), "linear": abs(i - j), "quadratic": (i - j) ** 2}[weights]
            observed = sum(a == categories[i] and b == categories[j] for a, b in zip(first, second, strict=True))
            above += w * observed / n
            below += w * first.count(categories[i]) * second.count(categories[j]) / n**2
    return 1 - above / below if below else math.nan


def test_kappa_of_cohens_kind_of_table_by_hand():
    """20 both yes, 5 yes/no, 10 no/yes, 15 both no: p_o = 0.7, p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5, κ = 0.4."""
    first = [1] * 25 + [0] * 25
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert confusion_matrix(first, second, categories=(0, 1)).tolist() == [[15, 10], [5, 20]]
    for weights in WEIGHTS:  # with two categories all weights are one
        assert cohen_kappa(first, second, categories=(0, 1), weights=weights) == pytest.approx(0.4, abs=1e-12)


def test_weighted_kappa_by_hand():
    """a = 1 2 3, b = 1 3 3. Quadratic: Σ w O = 1; rows 1/3 each, columns 1/3, 0, 2/3: Σ w E = (0+8+1+2+4+0) / 3 = 5."""
    assert cohen_kappa([1, 2, 3], [1, 3, 3], categories=(1, 2, 3), weights="quadratic") == pytest.approx(1 - 1 / 5, abs=1e-12)
    assert cohen_kappa([1, 2, 3], [1, 3, 3], categories=(1, 2, 3), weights="linear") == pytest.approx(1 - 1 / 3, abs=1e-12)
    assert cohen_kappa([1, 2, 3], [1, 3, 3], categories=(1, 2, 3)) == pytest.approx(0.5, abs=1e-12)


@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=40), st.sampled_from(WEIGHTS))
def test_kappa_equals_its_twin_and_is_symmetric(pairs, weights):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    value = cohen_kappa(first, second, categories=range(1, 8), weights=weights)
    np.testing.assert_allclose(value, twin(first, second, range(1, 8), weights), atol=1e-12)
    np.testing.assert_allclose(value, cohen_kappa(second, first, categories=range(1, 8), weights=weights), atol=1e-12)
    assert not value > 1


def test_perfect_opposite_and_chance():
    assert cohen_kappa([1, 2, 3], [1, 2, 3], categories=(1, 2, 3)) == 1
    assert cohen_kappa([0, 1], [1, 0], categories=(0, 1)) == -1
    rng = np.random.default_rng(0)
    one, two = (rng.integers(1, 8, 20000).tolist() for _ in range(2))
    assert abs(cohen_kappa(one, two, categories=range(1, 8), weights="quadratic")) < 0.02


def test_where_chance_alone_gives_full_agreement_kappa_has_no_value():
    assert math.isnan(cohen_kappa([4, 4], [4, 4], categories=range(1, 8)))
    assert math.isnan(cohen_kappa([], [], categories=range(1, 8)))
    assert cohen_kappa([4, 4], [4, 5], categories=range(1, 8)) == 0, "one of them varies: chance, not nothing"


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="first has 1 values, second 2"):
        cohen_kappa([1], [1, 2], categories=(1, 2))
    with pytest.raises(ValueError, match="3 is none of the categories"):
        cohen_kappa([1], [3], categories=(1, 2))
    with pytest.raises(ValueError, match='"linear" or "quadratic"'):
        cohen_kappa([1], [1], categories=(1, 2), weights="cubic")


def label(labeler, ratings, *, item="a", repetition=0, toxic=NO):
    return Label(
        item=item,
        fingerprint=ITEM.fingerprint,
        labeler=labeler,
        ratings=ratings,
        order=(0, 1, 2),
        toxic=toxic,
        made_up=NO,
        not_following=NO,
        key="k",
        repetition=repetition,
    )


def newest(*labels):
    return {one.place: one for one in labels}


def test_labelers_are_compared_on_what_both_have_rated():
    found = newest(
        label("anna", (1, 4, 7)),
        label("ben", (2, 4, 6)),
        label("anna", (1, 1, 1), item="b"),
        label("anna", None, item="c"),
        label("ben", (1, 2, 3), item="c"),
        label("cleo", (7, 4, 1)),
    )
    agreement = agreement_between(found, "anna", "ben")
    assert (agreement.n_items, agreement.n_answers, agreement.same_order) == (1, 3, 1.0)
    assert agreement.ratings == pytest.approx(twin([1, 4, 7], [2, 4, 6], range(1, 8), "quadratic"))
    assert agreement_between(found, "anna", "cleo").same_order == 0 and agreement_between(found, "anna", "cleo").ratings < 0
    assert labelers(found) == ["anna", "ben", "cleo"]
    assert agreement_between(found, "anna", "nobody").n_items == 0


def test_a_labeler_is_compared_with_themselves_on_what_came_twice():
    found = newest(label("anna", (1, 7, 4)), label("anna", (1, 7, 4), repetition=1), label("ben", (1, 1, 1)))
    agreement = self_agreement(found, "anna")
    assert (agreement.n_items, agreement.ratings, agreement.order) == (1, 1, 1)
    assert self_agreement(found, "ben").n_items == 0 and math.isnan(self_agreement(found, "ben").ratings)


def test_ties_are_an_order_of_their_own():
    found = newest(label("anna", (4, 4, 7)), label("ben", (3, 4, 7)))
    assert agreement_between(found, "anna", "ben").same_order == pytest.approx(2 / 3)


def test_flags_have_a_kappa_each():
    some = (True, False, False)
    found = newest(label("anna", (1, 2, 3), toxic=some), dataclasses.replace(label("ben", (1, 2, 3)), toxic=some))
    flags = agreement_between(found, "anna", "ben").flags
    assert flags["toxic"] == 1 and math.isnan(flags["made_up"])

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest

from tinyllm.storage.fields import check_choice, check_number, check_whole


@dataclass(frozen=True)
class Settings:
    n: Any = 3
    x: Any = 0.5
    kind: Any = "plain"


@pytest.mark.parametrize("value", [1, 7, np.int32(4), np.uint8(7)])
def test_whole_numbers_within_their_bounds_pass_and_are_python_s(value):
    settings = Settings(n=value)
    check_whole(settings, "n", low=1, high=7)
    assert type(settings.n) is int and json.loads(json.dumps(asdict(settings)))["n"] == value


@pytest.mark.parametrize("value", [0, 8, 2.0, True, np.bool_(True), "3", None, float("nan"), np.float32(2)])
def test_what_is_no_whole_number_within_them_is_refused_by_name(value):
    with pytest.raises(ValueError, match="n must be a whole number from 1 to 7, got .*: why"):
        check_whole(Settings(n=value), "n", low=1, high=7, hint=": why")


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "said"),
    [
        (
            {"low": 0},
            [0, 0.1, np.float32(3), 10**30],
            [-1e-9, float("nan"), float("inf"), "1", None, True],
            "a number of at least 0",
        ),
        ({"above": 0, "high": 1}, [1e-9, 1], [0, 1.1], "a number above 0 and at most 1"),
        ({"low": 0, "below": 1}, [0, 0.99], [1, -0.1], "a number of at least 0 and below 1"),
        ({"low": -50, "high": 50}, [-50, 50.0], [51], "a number from -50 to 50"),
        ({}, [-1e300, 0], [float("-inf")], "a number that is finite"),
    ],
)
def test_numbers_keep_to_each_kind_of_bound(bounds, good, bad, said):
    for value in good:
        check_number(Settings(x=value), "x", **bounds)
    for value in bad:
        with pytest.raises(ValueError, match=f"^x must be {said}, got "):
            check_number(Settings(x=value), "x", **bounds)


def test_none_passes_only_where_it_may():
    check_whole(Settings(n=None), "n", low=1, optional=True)
    check_number(Settings(x=None), "x", low=1, optional=True)
    with pytest.raises(ValueError, match="n must be a whole number of at least 1 or None, got 0"):
        check_whole(Settings(n=0), "n", low=1, optional=True)


def test_the_nearest_choice_is_named():
    check_choice(Settings(), "kind", ["plain", "fancy"])
    with pytest.raises(ValueError, match=r"kind must be one of plain, fancy, got 'plane' \(did you mean 'plain'\?\)"):
        check_choice(Settings(kind="plane"), "kind", ["plain", "fancy"])
    with pytest.raises(ValueError, match=r"got None$"):
        check_choice(Settings(kind=None), "kind", ["plain", "fancy"])

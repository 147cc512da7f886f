"""Named random streams: each its own, the same each time."""

import re
from pathlib import Path

import pytest

import tinyllm.recipes
from tinyllm.training.streams import NAMES, stream


def test_equal_seeds_and_names_give_equal_numbers_and_others_do_not():
    drawn = {name: stream(1, name).random(4).tolist() for name in NAMES}
    assert {name: stream(1, name).random(4).tolist() for name in NAMES} == drawn
    others = [*drawn.values(), stream(2, "rollouts").random(4).tolist(), stream(1, "sample", 3).random(4).tolist()]
    assert len({tuple(numbers) for numbers in others}) == len(NAMES) + 2


def test_a_name_that_nobody_listed_is_refused():
    with pytest.raises(ValueError, match="name is 'rolouts'; expected one of weights, windows of text"):
        stream(1, "rolouts")


def test_each_name_has_one_user():
    """Two places that draw from one name would get the same numbers, and one generator for both would not survive a stop."""
    sources = [path.read_text() for path in Path(tinyllm.recipes.__file__).parent.glob("*.py")]
    used = [name for text in sources for name in re.findall(r"stream\([\w.]*seed, \"([^\"]+)\"", text)]
    assert sorted(used) == sorted(NAMES)
    assert len(set(NAMES.values())) == len(NAMES)

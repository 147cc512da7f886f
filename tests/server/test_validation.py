"""The validator: what does not fit is refused with the field's name, and never by accident."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.server import Refused
from tinyllm.server.labeler_app import LABEL_RULES, TASK_RULES
from tinyllm.server.validation import read_json, validate, validate_query

GOOD = {
    "labeler": "anna",
    "position": 0,
    "task": "0" * 16,
    "key": "key-00000001",
    "ratings": [1, 7],
    "toxic": [True, False],
    "made_up": [False, False],
    "not_following": [False, False],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def refusal(value, rules=LABEL_RULES):
    with pytest.raises(Refused) as caught:
        validate(value, rules)
    assert caught.value.status == 400
    return caught.value.text


def test_what_fits_comes_through_unchanged():
    assert validate(GOOD, LABEL_RULES) == GOOD
    assert validate({**GOOD, "ratings": None}, LABEL_RULES)["ratings"] is None


@pytest.mark.parametrize(
    "field, value",
    [
        ("labeler", ""),
        ("labeler", "a" * 81),
        ("labeler", 5),
        ("labeler", None),
        ("position", -1),
        ("position", 10**9),
        ("position", 1.0),
        ("position", True),
        ("position", "1"),
        ("position", 2**70),
        ("task", "0" * 15),
        ("task", "g" * 16),
        ("task", "0" * 17),
        ("task", "A" * 16),
        ("task", "0" * 15 + "\n"),
        ("key", "short"),
        ("key", "a" * 65),
        ("key", "key 00000001"),
        ("key", "../../../etc"),
        ("key", "<script>"),
        ("ratings", [0, 1]),
        ("ratings", [8, 1]),
        ("ratings", [1.5, 1]),
        ("ratings", [True, 1]),
        ("ratings", ["1", 1]),
        ("ratings", [1]),
        ("ratings", [1] * 10),
        ("ratings", {}),
        ("ratings", "12"),
        ("toxic", None),
        ("toxic", [0, 1]),
        ("toxic", ["yes", "no"]),
        ("toxic", []),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    assert refusal({**GOOD, field: value}).startswith(field)


@pytest.mark.parametrize("field", GOOD)
def test_a_missing_field_is_named(field):
    assert refusal({name: value for name, value in GOOD.items() if name != field}) == f"{field}: missing"


def test_an_unknown_field_is_refused():
    assert "'admin': unknown field" in refusal({**GOOD, "admin": True})
    assert "unknown field" in refusal({**GOOD, "__proto__": {}})


@given(JSON)
def test_any_json_is_either_fit_or_refused(value):
    refusal(value)
    for field in GOOD:
        try:
            validate({**GOOD, field: value}, LABEL_RULES)
        except Refused as refused:
            assert refused.status == 400


def test_queries_have_numbers_as_digits_and_names_once():
    optional = ("position",)
    assert validate_query([("labeler", "a b"), ("position", "12")], TASK_RULES, optional=optional) == {
        "labeler": "a b",
        "position": 12,
    }
    assert validate_query([("labeler", "5")], TASK_RULES, optional=optional) == {"labeler": "5"}
    for pairs in (
        [("labeler", "a"), ("labeler", "b")],
        [],
        [("labeler", "a"), ("x", "1")],
        [("labeler", "a"), ("position", "-1")],
        [("labeler", "a"), ("position", "9" * 5000)],
        [("labeler", "a"), ("position", "\u0661")],
    ):
        with pytest.raises(Refused):
            validate_query(pairs, TASK_RULES, optional=optional)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null null",
        b"\xff",
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b"[" * 100,
        b"[" * 100_000,
        b"1" * 5000,
        b'"\\ud800"',
    ],
)
def test_what_is_not_plain_json_is_refused(body):
    async def chunks():
        yield body

    with pytest.raises(Refused) as caught:
        asyncio.run(read_json(chunks()))
    assert caught.value.status == 400


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch):
    monkeypatch.setattr("tinyllm.server.validation.BODY_SECONDS", 0.02)

    async def chunks():
        yield b"{"
        await asyncio.sleep(5)

    with pytest.raises(Refused) as caught:
        asyncio.run(read_json(chunks()))
    assert caught.value.status == 408

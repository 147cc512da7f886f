"""Facts about the JSON reader: what other parsers let pass is refused with the file, the field and what was found."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.storage import strict_json
from tinyllm.storage.strict_json import FormatError, MapOf, Optional

SCHEMA = {"vocab_size": int, "dropout": float, "bias": bool, "name": (str, None), "shape": [int]}
SCHEMA |= {"notes": Optional(str)}
GOOD = {"vocab_size": 5, "dropout": 0, "bias": True, "name": None, "shape": [1, 2]}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(json_values)
def test_every_json_value_survives_dump_and_parse(value):
    assert strict_json.parse(strict_json.dump(value), file="f") == value


@given(st.dictionaries(st.text("abcd", max_size=3), st.integers(), min_size=2))
def test_equal_objects_have_equal_bytes_whatever_their_order(value):
    assert strict_json.dump(value) == strict_json.dump(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"a": 1, "a": 2}', "key 'a' twice"),
        (b'{"a": {"b": 1, "b": 1}}', "key 'b' twice"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "1e999"),
        (b"1" * 5000, "5000 digits"),
        (b"[" * 100_000, "more"),
        (b"[" * 65 + b"]" * 65, "more"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "more"),
        (b'["\xff"]', "byte 0xff at position 2"),
        (b'["\\ud800"]', "\\ud800"),
        (b'{"\\uDC00": 1}', "\\udc00"),
        (b"", "Expecting value at line 1 column 1"),
        (b"{} {}", "Extra data"),
        (b"{'a': 1}", "double quotes"),
        (b'{"a": 01}', "delimiter"),
        (b'"\x00"', "control character"),
    ],
)
def test_what_is_not_json_is_refused_and_named(text, found):
    with pytest.raises(FormatError) as caught:
        strict_json.parse(text, file="model/config.json")
    assert str(caught.value).startswith("model/config.json: JSON: expected ")
    assert found in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("change", "field", "expected", "found"),
    [
        ({"vocab_size": True}, "vocab_size", "an integer", "True"),
        ({"vocab_size": 5.0}, "vocab_size", "an integer", "5.0"),
        ({"vocab_size": "5"}, "vocab_size", "an integer", "5"),
        ({"dropout": False}, "dropout", "a number", "False"),
        ({"bias": 1}, "bias", "true or false", "1"),
        ({"name": 3}, "name", "a string or null", "3"),
        ({"shape": [1, None]}, "shape[1]", "an integer", "None"),
        ({"shape": {}}, "shape", "a list", "{}"),
        ({"notes": None}, "notes", "a string", "None"),
        ({"vocabsize": 5}, "vocabsize", "one of vocab_size", "did you mean 'vocab_size'?"),
        ({"zzz": 5}, "zzz", "one of vocab_size", "an unknown key"),
    ],
)
def test_a_value_that_breaks_the_schema_names_its_field(change, field, expected, found):
    with pytest.raises(FormatError) as caught:
        strict_json.parse(json.dumps(GOOD | change), file="c.json", schema=SCHEMA)
    assert caught.value.field == field
    assert expected in caught.value.expected
    assert found in caught.value.found


def test_a_missing_key_is_named_and_an_optional_one_may_be_missing():
    strict_json.check(GOOD, SCHEMA, file="c.json")
    with pytest.raises(FormatError, match="vocab_size: expected an integer, found nothing: the key is missing"):
        strict_json.check({k: v for k, v in GOOD.items() if k != "vocab_size"}, SCHEMA, file="c.json")


def test_the_field_of_a_nested_fault_is_its_whole_path():
    with pytest.raises(FormatError) as caught:
        strict_json.parse('{"files": {"w": {"size": true}}}', file="m", schema={"files": MapOf({"size": int})})
    assert caught.value.field == "files.w.size"


def test_a_hostile_key_cannot_reach_the_terminal_raw():
    with pytest.raises(FormatError) as caught:
        strict_json.parse('{"\\u001b[31m%s": 1}' % ("x" * 1000), file="m", schema={})
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 400


def test_nan_is_not_written():
    with pytest.raises(ValueError):
        strict_json.dump({"loss": float("nan")})


def test_a_missing_file_is_an_oserror_and_a_huge_one_is_not_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        strict_json.read(tmp_path / "none.json")
    huge = tmp_path / "huge.json"
    with open(huge, "wb") as file:
        file.truncate(strict_json.MAX_BYTES + 1)  # sparse: takes no disk
    with pytest.raises(FormatError, match="file size"):
        strict_json.read(huge)


def test_a_byte_order_mark_is_not_part_of_the_json(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert strict_json.read(tmp_path / "a.json", schema={"a": int}) == {"a": 1}

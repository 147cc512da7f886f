"""A sample of what benchmarks/tokenizer_mutations.py does by the thousand, and the files that it found once."""

import json
import random

import pytest

from benchmarks.tokenizer_mutations import kinds, mutated, outcome, places

KINDS = kinds()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_damaged_file_is_refused_or_works(kind, tmp_path):
    name, data = KINDS[kind]
    assert outcome(_written(tmp_path / name, data), tmp_path) == "read"
    found = [outcome(_written(tmp_path / name, mutated(name, data, random.Random(f"{kind} {i}"))), tmp_path) for i in range(25)]
    assert found.count("refused") > 10


@pytest.mark.parametrize("kind", [kind for kind, (name, _) in KINDS.items() if name == "tokenizer.json"])
def test_a_part_whose_type_is_no_name_is_refused(kind, tmp_path):
    """Here "unhashable type: 'dict'" came."""
    content = json.loads(KINDS[kind][1])
    for part in ("model", "pre_tokenizer", "decoder", "normalizer", "post_processor"):
        for value in ({}, [], {"type": []}, 1):
            changed = {**content, part: {**(content[part] or {}), "type": value}}
            path = _written(tmp_path / "tokenizer.json", json.dumps(changed).encode())
            assert outcome(path, tmp_path) == "refused", (part, value)


def test_every_place_of_a_json_value_is_found():
    assert places({"a": [1, {"b": 2}]}) == [("a",), ("a", 0), ("a", 1), ("a", 1, "b")]


def _written(path, data):
    path.write_bytes(data)
    return path

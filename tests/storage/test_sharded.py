"""Facts about arrays in several files: all come back, and an index that does not fit its files is refused by name."""

import json

import numpy as np
import pytest

from tinyllm.storage import FormatError, safetensors, sharded

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def index(tmp_path):
    safetensors.save(tmp_path / ONE, {"a": np.arange(3.0), "b": np.zeros((0, 2))})
    safetensors.save(tmp_path / TWO, {"c": np.ones((2, 2), np.float32)})
    return write(tmp_path, {"a": ONE, "b": ONE, "c": TWO})


def write(folder, places):
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 40}, "weight_map": places}))
    return path


def test_the_arrays_of_all_shards_are_read(index):
    arrays = sharded.load(index)
    assert arrays.keys() == {"a", "b", "c"}
    np.testing.assert_array_equal(arrays["a"], [0, 1, 2])
    assert arrays["b"].shape == (0, 2) and arrays["c"].dtype == np.float32


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ({"a": ONE, "b": ONE}, None),
        ({"a": ONE, "c": TWO}, f"index.json: weight_map.b: expected {ONE}, which holds that array, found no such name"),
        ({"a": ONE, "b": ONE, "c": TWO, "d": TWO}, f"{TWO}: d: expected an array of that name, as the index says, found none"),
        ({"a": ONE, "b": TWO, "c": TWO}, f"weight_map.b: expected {ONE}, which holds that array, found it in {TWO}"),
        ({"a": ONE, "b": ONE, "c": "gone.safetensors"}, "weight_map: expected the file gone.safetensors beside it"),
        ({"a": ONE, "b": ONE, "c": f"../{TWO}"}, "names of .safetensors files in its folder, found ../"),
        ({"a": ONE, "b": ONE, "c": "/etc/passwd"}, "names of .safetensors files in its folder, found /etc/passwd"),
        ({"a": ONE, "b": ONE, "c": "sub\\\\x.safetensors"}, "names of .safetensors files in its folder"),
        ({"a": ONE, "b": ONE, "c": "x\0.safetensors"}, "names of .safetensors files in its folder"),
        ({"a": ONE, "b": ONE, "c": ""}, "names of .safetensors files in its folder"),
        ({"a": ONE, "b": 2}, "weight_map.b: expected a string, found 2"),
        ([], "weight_map: expected an object"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused_by_name(index, places, text):
    write(index.parent, places)
    if text is None:  # a shard that nobody names is nobody's business
        assert sharded.load(index).keys() == {"a", "b"}
        return
    with pytest.raises(FormatError) as caught:
        sharded.load(index)
    assert text in str(caught.value)


def test_an_array_in_two_shards_is_named(index):
    safetensors.save(index.parent / TWO, {"a": np.zeros(3), "c": np.ones((2, 2), np.float32)})
    with pytest.raises(FormatError, match=f"weight_map.a: expected {TWO}, which holds that array, found it in {ONE}"):
        sharded.load(index)

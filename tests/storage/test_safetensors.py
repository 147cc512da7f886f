"""Facts about the safetensors reader and writer: round trips, the reference's files, and malformed files."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tinyllm.storage import FormatError, safetensors

REFERENCE = Path(__file__).parents[1] / "fixtures" / "safetensors_reference.safetensors"
DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8]
DTYPES += [np.uint64, np.uint32, np.uint16, np.uint8, np.bool_]

EIGHT = b"12345678"  # the data of two float32


def file_of(header, data=b""):
    """The bytes of a file with this header (an object, or text) and this data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    """One header entry."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


WRAPS = [4194305, 4194305, 211106198978564]  # the product is 4 modulo 2**64
MALFORMED = {
    "empty file": (b"", "header length", "0 bytes"),
    "7 bytes": (b"\0" * 7, "header length", "7 bytes"),
    "header too large": (struct.pack("<Q", 2**63) + b"{}", "header length", str(2**63)),
    "header just over the limit": (struct.pack("<Q", 10_000_001) + b"{}", "header length", "10000001"),
    "header longer than the file": (struct.pack("<Q", 3) + b"{}", "header length", "3"),
    "header of length zero": (struct.pack("<Q", 0), "header", "nothing"),
    "a declared terabyte": (struct.pack("<Q", 2**40) + b"{" * 65, "header length", str(2**40)),
    "not UTF-8": (file_of(b'{"\xff": 1}'), "header", "byte 0xff"),
    "not JSON": (file_of(b"{hello}"), "header", "line 1 column 2"),
    "a list": (file_of(b"[]"), "header", "["),
    "leading space": (file_of(b" {}"), "header", "b' '"),
    "text after the object": (file_of(b"{} x"), "header", "Extra data"),
    "a tensor that is a number": (file_of({"w": 3}), "w", "3"),
    "a duplicate name": (file_of(b'{"w":{},"w":{}}'), "header", "key 'w' twice"),
    "a missing dtype": (file_of({"w": {"shape": [], "data_offsets": [0, 4]}}, b"1234"), "w.dtype", "missing"),
    "an unknown key": (file_of({"w": tensor() | {"dtyp": "F32"}}, EIGHT), "w.dtyp", "did you mean 'dtype'"),
    "an unknown dtype": (file_of({"w": tensor("F33")}, EIGHT), "w.dtype", "F33"),
    "a dtype we do not read": (file_of({"w": tensor("F8_E4M3")}, EIGHT), "w.dtype", "F8_E4M3"),
    "a dtype that is a number": (file_of({"w": tensor(32)}, EIGHT), "w.dtype", "32"),
    "a float size": (file_of({"w": tensor(shape=[2.0])}, EIGHT), "w.shape[0]", "2.0"),
    "a boolean size": (file_of({"w": tensor(shape=[True, 2])}, EIGHT), "w.shape[0]", "True"),
    "a negative size": (file_of({"w": tensor(shape=[-2, -1])}, EIGHT), "w.shape", "-2"),
    "a shape that is a number": (file_of({"w": tensor() | {"shape": 2}}, EIGHT), "w.shape", "2"),
    "65 axes": (file_of({"w": tensor(shape=[1] * 64 + [2])}, EIGHT), "w.shape", "65 axes"),
    "overflow of the number of values": (file_of({"w": tensor(shape=[2, 2**64 - 2])}), "w.shape", str(2**64 - 2)),
    "overflow of the bytes": (file_of({"w": tensor(shape=[2, 2**63 - 1])}), "w.shape", "9223372036854775807"),
    "a product that wraps to 4": (file_of({"w": tensor("U8", WRAPS, (0, 4))}, b"1234"), "w.shape", "4194305"),
    "overflow beside a zero": (file_of({"w": tensor("F32", [0, 2**62, 2**62], (0, 0))}), "w.shape", "46116860"),
    "one offset": (file_of({"w": tensor(offsets=[0])}, EIGHT), "w.data_offsets", "[0]"),
    "three offsets": (file_of({"w": tensor(offsets=[0, 8, 8])}, EIGHT), "w.data_offsets", "[0, 8, 8]"),
    "reversed offsets": (file_of({"w": tensor(offsets=[8, 0])}, EIGHT), "w.data_offsets", "[8, 0]"),
    "a negative offset": (file_of({"w": tensor(offsets=[-8, 0])}, EIGHT), "w.data_offsets", "[-8, 0]"),
    "an offset of 80 digits": (file_of({"w": tensor(offsets=[0, 10**79])}), "w.data_offsets", "[0, 1000"),
    "shape against offsets": (file_of({"w": tensor(shape=[3])}, EIGHT), "w.data_offsets", "8 bytes"),
    "dtype against offsets": (file_of({"w": tensor("F64")}, EIGHT), "w.data_offsets", "8 bytes"),
    "a hole at the start": (file_of({"w": tensor(offsets=[4, 12])}, b"1" * 12), "w.data_offsets", "begin 4"),
    "a hole in the middle": (file_of({"v": tensor(), "w": tensor(offsets=[12, 20])}, b"1" * 20), "w.data_offsets", "12"),
    "an overlap": (file_of({"v": tensor(), "w": tensor(offsets=[4, 12])}, b"1" * 12), "w.data_offsets", "begin 4"),
    "ten tensors on one range": (file_of({f"w{i}": tensor() for i in range(10)}, EIGHT), "w1.data_offsets", "begin 0"),
    "bytes after the last tensor": (file_of({"w": tensor()}, b"123456789"), "file size", "bytes"),
    "two bytes missing": (file_of({"w": tensor()}, b"123456"), "file size", "bytes"),
    "bytes without a tensor": (file_of({}, b"PK\x03\x04"), "file size", "bytes"),
    "metadata that is a list": (file_of({"__metadata__": []}), "__metadata__", "[]"),
    "metadata with a number": (file_of({"__metadata__": {"step": 3}}), "__metadata__.step", "3"),
    "NaN in the header": (file_of({"w": tensor(shape=[float("nan")])}, EIGHT), "header", "NaN"),
    "deep nesting": (file_of(b'{"a":' + b"[" * 50_000), "header", "more"),
    "an integer of 5000 digits": (file_of(b'{"a":{"shape":[' + b"9" * 5000 + b"]}}"), "header", "5000 digits"),
    "a lone surrogate in a name": (file_of({"\ud800": tensor("U8", [0], (0, 0))}), "header", "ud800"),
    "a boolean that is 7": (file_of({"w": tensor("BOOL", [1], (0, 1))}, b"\x07"), "w", "another byte"),
    "a renamed pickle": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix", "content", "a pickle, which is a program"),
    "a renamed zip": (b"PK\x03\x04" + b"\0" * 100, "content", "a zip archive, as PyTorch's .bin"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 548\n", "content", "of 548 bytes"),
    "a pointer cut short": (b"version https://git-lfs.github.com", "content", "a Git LFS pointer to the real file; get that"),
    "a web page": (b"\n<!DOCTYPE html><html>" + b" " * 999, "content", "a web page, not the file"),
    "a gzip archive": (b"\x1f\x8b\x08\0\0\0\0\0\0\0" * 9, "content", "a gzip archive; unpack it first"),
    "a GGUF file": (b"GGUF\3\0\0\0" * 9, "content", "a GGUF file, another format"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused_with_file_field_and_finding(case, tmp_path):
    content, field, found = MALFORMED[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        safetensors.load(path)
    assert caught.value.file == str(path)
    assert caught.value.field == field
    assert found in caught.value.found
    assert str(path) in str(caught.value) and "expected" in str(caught.value) and "found" in str(caught.value)


def test_the_reference_packages_file_loads(tmp_path):
    tensors = safetensors.load(REFERENCE)
    assert tensors.keys() == {"float64", "float32", "float16", "bfloat16", "int64", "uint8", "bool", "empty"}
    np.testing.assert_array_equal(tensors["float64"], np.arange(3) / 3)
    np.testing.assert_array_equal(tensors["float32"], np.arange(6, dtype=np.float32).reshape(2, 3) / np.float32(7))
    half = np.array([1.5, -2.0, 2.0**-24, np.inf], np.float32)
    np.testing.assert_array_equal(tensors["float16"], half, strict=True)
    brain = np.array([0x3F80, 0xC049, 0x7F62, 0x0001], np.uint32) << 16  # the bits of what was saved
    np.testing.assert_array_equal(tensors["bfloat16"], brain.view(np.float32), strict=True)
    np.testing.assert_array_equal(tensors["int64"], np.array(-(2**62)), strict=True)
    np.testing.assert_array_equal(tensors["bool"], np.array([[True], [False]]), strict=True)
    assert tensors["empty"].shape == (0, 4) and tensors["empty"].dtype == np.float32
    assert safetensors.read_header(REFERENCE).metadata == {"format": "pt", "greeting": "grüße"}


arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(lambda name: name != "__metadata__")


@given(st.dictionaries(names, arrays, max_size=5), st.dictionaries(names, names, max_size=3))
def test_what_is_saved_is_what_loads_bit_for_bit(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.mktemp("st") / "w.safetensors"
    safetensors.save(path, tensors, metadata=metadata)
    loaded, first = safetensors.load(path), path.read_bytes()
    assert loaded.keys() == tensors.keys()
    assert safetensors.read_header(path).metadata == metadata
    for name, array in tensors.items():
        wide = array.astype(np.float32) if array.dtype == np.float16 else array
        assert loaded[name].dtype == wide.dtype and loaded[name].shape == wide.shape
        assert loaded[name].tobytes() == wide.tobytes()
        assert loaded[name].flags.writeable and loaded[name].flags.aligned
    if not any(array.dtype == np.float16 for array in tensors.values()):
        safetensors.save(path, loaded, metadata=metadata)  # over the very file that is mapped
        assert path.read_bytes() == first


def test_a_header_as_long_as_a_magic_number_is_read(tmp_path):
    """Its length, 640, is written 80 02 ..., as a pickle begins."""
    text = json.dumps({"w": tensor()}).encode().ljust(640)
    (tmp_path / "w").write_bytes(struct.pack("<Q", 640) + text + EIGHT)
    assert safetensors.load(tmp_path / "w").keys() == {"w"}


def test_what_the_bytes_of_a_file_hold_is_what_the_file_holds():
    content = REFERENCE.read_bytes()
    expected = safetensors.load(REFERENCE)
    for given_as in (bytes, bytearray, memoryview):
        tensors = safetensors.load(given_as(content))
        assert tensors.keys() == expected.keys()
        for name, array in tensors.items():
            np.testing.assert_array_equal(array, expected[name], strict=True)
            assert array.flags.writeable and array.flags.aligned
    assert safetensors.read_header(content) == safetensors.read_header(REFERENCE)
    source = bytearray(content)
    safetensors.load(source)["float32"][:] = 7
    assert source == content  # a copy, as from a file


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_bytes_are_refused_as_a_file_of_them_is(case):
    content, field, found = MALFORMED[case]
    with pytest.raises(FormatError, match="^the bytes given: ") as caught:
        safetensors.load(content)
    assert caught.value.field == field and found in caught.value.found


def test_a_million_arrays_are_refused_by_the_size_of_their_names():
    """Parsing such a header took 25 s and 1.3 GB, only to refuse it."""
    entry = b'"tensor.%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    text = b"{" + b"".join(entry % i for i in range(1_000_000))[:-1] + b"}"
    with pytest.raises(FormatError, match="header length: expected at most 10000000 bytes"):
        safetensors.load(file_of(text))


def test_strides_and_byte_order_do_not_matter(tmp_path):
    base = np.arange(12, dtype=np.int32).reshape(3, 4)
    odd = {"t": base.T, "r": base[::-1, ::2], "big": base.astype(">i4"), "b": np.broadcast_to(base[0], (2, 4))}
    safetensors.save(tmp_path / "w", odd)
    for name, array in safetensors.load(tmp_path / "w").items():
        np.testing.assert_array_equal(array, odd[name])
        assert array.dtype == np.int32 and array.flags.c_contiguous


def test_a_misaligned_tensor_is_copied_to_alignment(tmp_path):
    header = {"a": tensor("U8", [1], (0, 1)), "b": tensor("F32", [2], (1, 9))}
    (tmp_path / "w").write_bytes(file_of(header, b"\x07" + np.array([1, 2], "<f4").tobytes()))
    loaded = safetensors.load(tmp_path / "w")
    np.testing.assert_array_equal(loaded["b"], [1, 2])
    assert loaded["b"].flags.aligned


def test_writing_into_a_loaded_array_does_not_reach_the_file(tmp_path):
    safetensors.save(tmp_path / "w", {"a": np.zeros(4)})
    before = (tmp_path / "w").read_bytes()
    safetensors.load(tmp_path / "w")["a"][:] = 1
    assert (tmp_path / "w").read_bytes() == before


def test_arrays_mapped_from_a_file_survive_its_overwriting(tmp_path):
    path = tmp_path / "w"
    safetensors.save(path, {"a": np.arange(100_000.0)})
    mapped = safetensors.load(path)
    safetensors.save(path, {"a": mapped["a"] * 2, "b": np.zeros(3)})
    np.testing.assert_array_equal(mapped["a"], np.arange(100_000.0))
    np.testing.assert_array_equal(safetensors.load(path)["a"], 2 * np.arange(100_000.0))


@pytest.mark.parametrize(
    ("tensors", "metadata", "text"),
    [
        ({"w": np.zeros(2, complex)}, None, r"tensors\['w'\] has dtype complex128"),
        ({"w": np.array([{}])}, None, "has dtype object"),
        ({"w": np.array(["text"])}, None, "convert it first"),
        ({"__metadata__": np.zeros(2)}, None, "must be a string other than '__metadata__'"),
        ({3: np.zeros(2)}, None, "the name 3 must be a string"),
        ({"w": np.zeros(2)}, {"step": 3}, r"metadata\['step'\] is 3"),
        ({"w" * 10_000_001: np.zeros(2)}, None, "over the limit"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_no_file_appears(tensors, metadata, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        safetensors.save(tmp_path / "w", tensors, metadata=metadata)
    assert list(tmp_path.iterdir()) == []


@given(st.data())
def test_a_mutated_file_loads_or_is_refused_but_nothing_else(tmp_path_factory, data):
    content = bytearray(REFERENCE.read_bytes())
    for _ in range(20):  # 20 mutants an example, 1,000 in all
        mutant = bytearray(content)
        for position in data.draw(st.lists(st.integers(0, 8 * len(content) - 1), max_size=4)):
            mutant[position // 8] ^= 1 << position % 8
        mutant = mutant[: data.draw(st.integers(0, len(mutant)) | st.just(len(mutant)))]
        path = tmp_path_factory.getbasetemp() / "mutant.safetensors"
        path.write_bytes(mutant)
        try:
            loaded = safetensors.load(path)
        except FormatError:
            continue
        header = safetensors.read_header(path)
        n_header = 8 + int.from_bytes(mutant[:8], "little")
        assert n_header + sum(info.end - info.begin for info in header.tensors.values()) == len(mutant)
        assert all(loaded[name].shape == info.shape for name, info in header.tensors.items())


def test_mutants_aimed_at_the_header_give_no_other_exception(tmp_path):
    """The same, by brute force: every byte of the header replaced by each of a dozen characters that matter."""
    content = REFERENCE.read_bytes()
    path = tmp_path / "mutant"
    end = 8 + int.from_bytes(content[:8], "little")
    accepted = 0
    for position in range(0, end, 3):
        for byte in b'\x00"{}[]:,-19.\xff':
            path.write_bytes(content[:position] + bytes([byte]) + content[position + 1 :])
            try:
                safetensors.load(path)
                accepted += 1
            except FormatError:
                pass
    assert accepted > 0  # a changed letter inside a name is a valid file

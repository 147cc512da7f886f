"""safetensors: named arrays in one file, with nothing in it that could run. (A pickle is a program; this is a table.)

Layout: 8 bytes N (u64, little endian), N bytes of JSON {"name": {"dtype", "shape", "data_offsets"}, ...,
"__metadata__": {string: string}}, then the raw bytes of all arrays, back to back. Format: README of
huggingface/safetensors, "Format". Every check of the reference reader is made here before a single array exists:
sizes against the real file, offsets without hole or overlap, products of shapes without overflow. We are stricter in
four places: the header starts with "{" as the README says, it has at most 10 MB (a hundred thousand arrays; parsing the
100 MB that the reference allows would take gigabytes), booleans are 0 or 1, and F16/BF16 are widened to float32.
"""

import io
import mmap
import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm.storage import atomic, foreign, strict_json
from tinyllm.storage.strict_json import FormatError, MapOf

MAX_HEADER_BYTES = 10_000_000
_MAX_RANK = 64  # NumPy's own
_MAX_BYTES = 2**63 - 1  # what one address space, and NumPy's index type, can hold
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}
_ENTRY = {"dtype": str, "shape": [int], "data_offsets": [int]}


Source = str | os.PathLike[str] | bytes | bytearray | memoryview


@dataclass(frozen=True)
class TensorInfo:
    """One entry of the header: dtype as the file names it, shape, and its bytes [begin, end) counted in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file declares about itself: tensors by name in file order, and string metadata."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


def read_header(source: Source) -> Header:
    """The checked header of a file, or of its bytes; no tensor byte is read. FormatError, or OSError if unreadable."""
    if isinstance(source, bytes | bytearray | memoryview):
        return _read_header(io.BytesIO(source), memoryview(source).nbytes, "the bytes given")
    with open(source, "rb") as file:
        return _read_header(file, os.fstat(file.fileno()).st_size, source)


def load(source: Source) -> dict[str, np.ndarray]:
    """All arrays of a file by name, mapped copy-on-write: pages load when touched, writes never reach the file.

    `source` is the file's path, or its content as bytes (which are copied once). F16 and BF16 come as float32 (a copy, as
    does an array the file holds misaligned). FormatError names what is wrong. The file must not be cut short while it is
    mapped; replacing it by `save`, or by any rename, is safe.
    """
    header = read_header(source)
    if isinstance(source, bytes | bytearray | memoryview):
        content = bytearray(source)
        return {name: _array(content, info, "the bytes given", name) for name, info in header.tensors.items()}
    with open(source, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return {name: _array(mapped, info, source, name) for name, info in header.tensors.items()}


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """float32 -> the bits of the nearest bfloat16 (uint16), of two equally near the even one."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def save(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], *, metadata: Mapping[str, str] | None = None,
    bfloat16: Collection[str] = (),
) -> None:  # fmt: skip
    """Writes arrays (any strides, any byte order) atomically; equal content gives equal bytes.

    bfloat16: names of the arrays that are bits made by `to_bfloat16`.

    The order is by item size, then name, so that each array begins on its own alignment. ValueError for a dtype the
    format lacks, a name or metadata that is not a string, or a header over the limit.
    """
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    for name, array in arrays.items():
        if not isinstance(name, str) or name == "__metadata__":
            raise ValueError(f"tensors: the name {name!r} must be a string other than '__metadata__'")
        if array.dtype.newbyteorder("<") not in _NAMES:
            known = ", ".join(sorted(str(d) for d in _NAMES))
            raise ValueError(f"tensors[{name!r}] has dtype {array.dtype}; safetensors holds {known}: convert it first")
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    head = _header_bytes({name: arrays[name] for name in order}, metadata, bfloat16)
    atomic.write_file(path, _chunks(head, [arrays[name] for name in order]))


def _header_bytes(arrays: dict[str, np.ndarray], metadata: Mapping[str, str] | None, bfloat16: Collection[str]) -> bytes:
    """The length and the JSON for arrays laid out in this order, padded so that the data begins on 8 bytes."""
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ValueError(f"metadata[{key!r}] is {value!r}; names and values must be strings: convert them first")
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name, array in arrays.items():
        dtype, end = "BF16" if name in bfloat16 else _NAMES[array.dtype.newbyteorder("<")], begin + array.nbytes
        table[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    text = strict_json.dump(table)
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"tensors: names and shapes take {len(text)} bytes, over the limit of {MAX_HEADER_BYTES}")
    return struct.pack("<Q", len(text)) + text


def _chunks(head: bytes, arrays: list[np.ndarray]) -> Any:
    """The file's bytes piece by piece; only an array with odd strides or byte order is copied, one at a time."""
    yield head
    for array in arrays:
        yield np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data


def _read_header(file: Any, size: int, path: str | os.PathLike[str]) -> Header:
    """The checks of an open file, cheapest first; nothing is allocated from a declared size before it is compared."""
    prefix = file.read(8)
    if len(prefix) < 8:
        raise FormatError(path, field="header length", expected="8 bytes", found=f"a file of {len(prefix)} bytes")
    (length,) = struct.unpack("<Q", prefix)
    start = file.read(foreign.LENGTH)
    if length > min(MAX_HEADER_BYTES, size - 8) or start[:1] != b"{":
        if what := foreign.recognised(prefix + start):
            raise FormatError(path, field="content", expected="a safetensors file", found=what)
    file.seek(len(prefix))
    if length > MAX_HEADER_BYTES:
        raise FormatError(path, field="header length", expected=f"at most {MAX_HEADER_BYTES} bytes", found=str(length))
    if length > size - 8:
        expected = f"at most {size - 8} bytes (the file's rest)"
        raise FormatError(path, field="header length", expected=expected, found=str(length))
    text = file.read(length)
    if text[:1] != b"{":
        raise FormatError(path, field="header", expected="an object, beginning with '{'", found=text[:1] or "nothing")
    table = strict_json.parse(text, file=path, field="header", schema=MapOf(object))
    metadata = table.pop("__metadata__", {})
    strict_json.check(metadata, MapOf(str), file=path, field="__metadata__")
    tensors = {name: _entry(entry, path, name, 8 + length) for name, entry in table.items()}
    _check_cover(tensors, path, 8 + length, size)
    return Header(dict(sorted(tensors.items(), key=lambda item: item[1].begin)), metadata)


def _entry(entry: dict[str, Any], path: str | os.PathLike[str], name: str, start: int) -> TensorInfo:
    """One tensor's declaration, checked in itself: known dtype, sane shape, and bytes = shape x dtype."""
    strict_json.check(entry, _ENTRY, file=path, field=name)
    if entry["dtype"] not in _DTYPES:
        raise FormatError(path, field=f"{name}.dtype", expected="one of " + ", ".join(_DTYPES), found=entry["dtype"])
    shape, offsets = entry["shape"], entry["data_offsets"]
    if len(shape) > _MAX_RANK:
        raise FormatError(path, field=f"{name}.shape", expected=f"at most {_MAX_RANK} axes", found=f"{len(shape)} axes")
    if len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] <= _MAX_BYTES:
        expected = "[begin, end] with 0 <= begin <= end"
        raise FormatError(path, field=f"{name}.data_offsets", expected=expected, found=offsets)
    n_bytes = _checked_bytes(shape, _DTYPES[entry["dtype"]].itemsize, path, name)
    declared = offsets[1] - offsets[0]
    if n_bytes != declared:
        expected = f"{n_bytes} bytes (shape {shape} of {entry['dtype']})"
        raise FormatError(path, field=f"{name}.data_offsets", expected=expected, found=f"{declared} bytes")
    return TensorInfo(entry["dtype"], tuple(shape), start + offsets[0], start + offsets[1])


def _checked_bytes(shape: list[int], itemsize: int, path: str | os.PathLike[str], name: str) -> int:
    """itemsize x the product of `shape`, refusing what a 64-bit product would wrap, also beside a zero."""
    product = itemsize
    for n in shape:
        if not 0 <= n <= _MAX_BYTES:
            raise FormatError(path, field=f"{name}.shape", expected=f"sizes from 0 to {_MAX_BYTES}", found=str(n))
        product *= max(n, 1)
        if product > _MAX_BYTES:
            raise FormatError(path, field=f"{name}.shape", expected=f"at most {_MAX_BYTES} bytes", found=shape)
    return 0 if 0 in shape else product


def _check_cover(tensors: dict[str, TensorInfo], path: str | os.PathLike[str], start: int, size: int) -> None:
    """The arrays must tile the data exactly: no overlap, no hole, no byte after the last one."""
    position = start
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != position:
            expected, found = f"to begin at {position - start} (no hole, no overlap)", f"begin {info.begin - start}"
            raise FormatError(path, field=f"{name}.data_offsets", expected=expected, found=found)
        position = info.end
    if position != size:
        expected = f"{position} bytes (header and all tensors)"
        raise FormatError(path, field="file size", expected=expected, found=f"{size} bytes")


def _array(mapped: mmap.mmap | bytearray, info: TensorInfo, path: str | os.PathLike[str], name: str) -> np.ndarray:
    """One array over the mapped bytes, widened or copied where it must be."""
    dtype = _DTYPES[info.dtype]
    count = (info.end - info.begin) // dtype.itemsize
    if count == 0:
        return np.zeros(info.shape, np.float32 if info.dtype in ("F16", "BF16") else dtype)
    if info.dtype == "BOOL" and np.frombuffer(mapped, np.uint8, count, info.begin).max() > 1:
        raise FormatError(path, field=name, expected="booleans stored as 0 or 1", found="another byte")
    array = np.frombuffer(mapped, dtype, count, info.begin).reshape(info.shape)
    if info.dtype == "BF16":  # bfloat16 is the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    if info.dtype == "F16":
        return array.astype(np.float32)
    return array if array.flags.aligned else array.copy()

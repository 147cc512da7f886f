"""Protocol buffers, as much of them as a tokenizer file needs: a message is a row of fields, each a number, a kind and a value.

    key = number << 3 | kind      0: whole number, seven bits a byte, the lowest first; 1, 5: eight or four bytes; 2: a length,
    bytes

(Google, "Encoding", developers' documentation.) What a field means is said by whoever reads it; unknown ones can be kept. A
number of more than ten bytes, or a length beyond the end, is an error with its place.
"""

import struct
from collections.abc import Iterator

VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
Field = tuple[int, int, int | bytes]  # number, kind, value


def read_number(data: bytes, place: int) -> tuple[int, int]:
    """(a number of seven bits a byte, the place behind it); ValueError if it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError(f"byte {place}: the file ends inside a number")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise ValueError(f"byte {place}: a number of more than ten bytes")


def read_fields(data: bytes) -> Iterator[Field]:
    """The fields of a message in order. ValueError with the place of what is no message."""
    place = 0
    while place < len(data):
        key, place = read_number(data, place)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"byte {place}: a field with number {number}")
        value: int | bytes
        if kind == VARINT:
            value, place = read_number(data, place)
        elif kind in (EIGHT, BYTES, FOUR):
            n = 8 if kind == EIGHT else 4
            if kind == BYTES:
                n, place = read_number(data, place)
            if place + n > len(data):
                raise ValueError(f"byte {place}: a field of {n} bytes, where {len(data) - place} are left")
            value = data[place : place + n]
            place += n
        else:
            raise ValueError(f"byte {place}: a field of kind {kind}")
        yield number, kind, value


def write_number(value: int) -> bytes:
    """The inverse of `read_number`; negative ones as 64 bits."""
    value &= 0xFFFFFFFFFFFFFFFF
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def write_field(number: int, value: int | bytes | float) -> bytes:
    """One field: a whole number (or truth value), bytes, or a float of 32 bits."""
    if isinstance(value, float):
        return write_number(number << 3 | FOUR) + struct.pack("<f", value)
    if isinstance(value, bytes):
        return write_number(number << 3 | BYTES) + write_number(len(value)) + value
    return write_number(number << 3 | VARINT) + write_number(int(value))

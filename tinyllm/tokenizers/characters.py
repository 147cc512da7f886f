"""Text and ids as users give them, made sound: any str or bytes becomes a str that UTF-8 can write, and back without loss.

Bytes that are not UTF-8 travel as U+DC80..U+DCFF (PEP 383), surrogate pairs become the character they spell, and any other lone
surrogate becomes U+FFFD.
"""

import codecs
import re
from array import array
from collections.abc import Callable, Iterable, Iterator

import numpy as np

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
ALL = 1 << 62  # spaces


def without_leading(data: bytes, n_spaces: int) -> bytes:
    """`data` without up to `n_spaces` spaces that it begins with."""
    return data[min(n_spaces, len(data) - len(data.lstrip(b" "))) :] if n_spaces else data


def to_text(text: str | bytes) -> str:
    """`text` as a str in which U+DC80..U+DCFF stand for bytes that are not UTF-8, and no other surrogate is left."""
    if isinstance(text, bytes | bytearray | memoryview):
        return bytes(text).decode("utf-8", "surrogateescape")
    if not isinstance(text, str):
        raise ValueError(f"text: got {type(text).__name__}, expected str or bytes")
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return to_text(to_bytes(_LONE.sub("\ufffd", _PAIR.sub(_join_pair, text))))


def _join_pair(match: re.Match[str]) -> str:
    """The character that two UTF-16 surrogates spell."""
    return match.group().encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def to_bytes(text: str) -> bytes:
    """The inverse of `to_text`: UTF-8, with escaped bytes as they were."""
    return text.encode("utf-8", "surrogateescape")


def as_array(ids: Iterable[int]) -> np.ndarray:
    """Ids as an array (n,) of whole numbers; ValueError for anything else (1.0 and None are none)."""
    if isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype.kind in "iu":
        return ids
    try:
        if isinstance(ids, str | bytes | bytearray):
            raise TypeError
        ids = ids if isinstance(ids, list) else list(ids)
        try:
            return np.frombuffer(array("i", ids), np.int32)
        except OverflowError:
            return np.frombuffer(array("q", ids), np.int64)
    except TypeError:
        raise ValueError(f"ids: got {type(ids).__name__}, expected an iterable of whole numbers") from None
    except OverflowError:
        raise ValueError("ids: got a number of more than 64 bits; were these ids made by another tokenizer?") from None


def decode_chunks(chunks: Iterable[str | bytes]) -> Iterator[str]:
    """Text of the chunks by the rules of `to_text`, with characters that were cut in two made whole."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    high = ""  # the first half of a surrogate pair, waiting for the second
    for chunk in chunks:
        if isinstance(chunk, str):
            chunk, high = high + chunk, ""
            if chunk and "\ud800" <= chunk[-1] <= "\udbff":
                chunk, high = chunk[:-1], chunk[-1]
            chunk = to_bytes(to_text(chunk))
        yield decoder.decode(chunk)
    yield decoder.decode(to_bytes(to_text(high)), True)


def settled_parts(chunks: Iterable[str | bytes], settled: Callable[[str], int]) -> Iterator[str]:
    """The text of the chunks in parts that whatever follows cannot change. settled(text): how much of its beginning that is.

    What waits and gave nothing is not looked at again before it has doubled, so that a huge word costs linear time.
    """
    waiting, patience = "", 0
    for text in decode_chunks(chunks):
        waiting += text
        if len(waiting) < patience:
            continue
        if done := settled(waiting):
            yield waiting[:done]
            waiting = waiting[done:]
        patience = 2 * len(waiting)
    if waiting:
        yield waiting

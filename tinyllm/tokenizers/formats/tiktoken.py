"""Reading and writing tiktoken's files: a token in base64 and its rank, one a line; the rank is the id.

The file says nothing of how text is cut and of special tokens: OpenAI keeps them in code. So the pattern is asked for, or
known by the file's name (cl100k_base.tiktoken); `ENCODINGS` has them. A file may be packed with gzip.
"""

import base64
import binascii
import gzip
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tinyllm.storage import FormatError, foreign, write_file
from tinyllm.tokenizers.bpe import BPETokenizer
from tinyllm.tokenizers.pretokenize import SplitPattern

MOST_BYTES = 1 << 27  # of a file, unpacked
GZIP = b"\x1f\x8b"


class Encoding(NamedTuple):
    """What OpenAI's code says of a file of ranks."""

    pattern: str
    special_tokens: dict[str, int]


_FIM = {"<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260}
ENCODINGS = {
    "r50k_base": Encoding("gpt2", {"<|endoftext|>": 50256}),
    "p50k_base": Encoding("gpt2", {"<|endoftext|>": 50256}),
    "cl100k_base": Encoding("gpt4", {"<|endoftext|>": 100257, **_FIM, "<|endofprompt|>": 100276}),
    "o200k_base": Encoding("gpt4o", {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}),
}


def read_ranks(
    path: str | os.PathLike[str], *, pattern: str | SplitPattern | None = None, special_tokens: Mapping[str, int] | None = None
) -> BPETokenizer:
    """The tokenizer of a .tiktoken file. FormatError names the line; ValueError if the pattern is neither given nor known."""
    path = Path(path)
    known = ENCODINGS.get(path.name.split(".")[0])
    cut = pattern or (known and known.pattern)
    if cut is None:
        names = ", ".join(ENCODINGS)
        raise ValueError(f"pattern: {path.name} does not say how text is cut, and its name is none of {names}; name the pattern")
    if special_tokens is None:
        special_tokens = known.special_tokens if known and cut == known.pattern else {}
    ranks = _ranks(path, _content(path))
    tokens = [b""] * (max([*ranks.values(), *special_tokens.values()], default=-1) + 1)
    for token, rank in ranks.items():
        tokens[rank] = token
    for text, index in special_tokens.items():
        if not 0 <= index < len(tokens) or tokens[index]:
            raise FormatError(path, field=f"special token {text}", expected="an id that no line has", found=index)
        tokens[index] = text.encode()
    try:
        return BPETokenizer(tokens, None, pattern=cut, special_tokens=dict(special_tokens))
    except ValueError as error:
        field, _, text = str(error).partition(": ")
        raise FormatError(path, field=field, expected="each byte and each token once", found=text) from None


def _content(path: Path) -> bytes:
    """The lines, unpacked if need be."""
    content = path.read_bytes()
    if content[:2] == GZIP:
        try:
            with gzip.open(path) as file:
                content = file.read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise FormatError(path, field="content", expected="a whole gzip file", found=str(error)) from None
    if len(content) > MOST_BYTES:
        raise FormatError(path, field="size", expected=f"at most {MOST_BYTES} bytes", found="more")
    if what := foreign.recognised(content[: foreign.LENGTH]):
        raise FormatError(path, field="content", expected="tokens in base64 and their ranks, one a line", found=what)
    return content


def _ranks(path: Path, content: bytes) -> dict[bytes, int]:
    """token -> rank."""
    ranks: dict[bytes, int] = {}
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text, rank = line.split()
            token = base64.b64decode(text, validate=True)
            if not token or not rank.isdigit() or len(rank) > 8 or token in ranks:
                raise ValueError
        except (ValueError, binascii.Error):
            expected = "a token in base64, new, a space, and a rank such as 17"
            raise FormatError(
                path, field=f"line {number}", expected=expected, found=line[:80].decode("utf-8", "replace")
            ) from None
        ranks[token] = int(rank)
    most = max(ranks.values(), default=-1)
    if len(set(ranks.values())) != len(ranks) or most >= 2 * len(ranks) + 1024:
        raise FormatError(path, field="ranks", expected="each once, without large holes", found=f"{len(ranks)} up to {most}")
    return ranks


def write_ranks(tokenizer: BPETokenizer, path: str | os.PathLike[str]) -> None:
    """Write the ordinary tokens of a tokenizer as tiktoken's ranks, whole or not at all.

    ValueError if its merges are in another order than its ids: tiktoken would then give other ids.
    """
    if tokenizer.merges is not None:
        joined = [tokenizer.ordinary[left + right] for left, right in tokenizer.merges]
        if joined != sorted(joined):
            raise ValueError(
                "tokenizer: its merges are not in the order of their ids, so no ranks can say them; save tokenizer.json"
            )
    lines = [
        b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in sorted(tokenizer.ordinary.items(), key=lambda x: x[1])
    ]
    write_file(Path(path), b"".join(lines))

"""What a labeler is shown: a prompt and some answers to it, one JSON object a line.

    {"id": "news-0017", "prompt": "Summarise: ...", "answers": ["...", "...", "...", "...", "..."], "source": "news, test"}

`prompt` is a text or a conversation up to the answer. Five answers a prompt give 5 choose 2 = 10 comparisons for
the reading of one prompt, which is why InstructGPT let its labelers rank 4 to 9 at once (Ouyang et al. 2022, section
3.5). A label belongs to the exact texts that were read: each item has a fingerprint, and each label carries it.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.storage import strict_json, write_file
from tinyllm.storage.strict_json import FormatError, Optional
from tinyllm.tokenizers.chat import check_open

FEWEST_ANSWERS, MOST_ANSWERS = 2, 9
LONGEST_ID = 200  # characters

_MESSAGE = {"role": str, "content": str, "tool_call": Optional(str)}
_SCHEMA = {"id": str, "prompt": (str, [_MESSAGE]), "answers": [str], "source": Optional(str), "data": Optional(object)}


@dataclass(frozen=True)
class Item:
    """A prompt (a conversation, in messages) and the answers to be rated. ValueError if it cannot be labeled.

    source  where the prompt is from; data  what belongs to it but is not shown, the facts of a story for instance
    """

    id: str
    prompt: Sequence[Mapping[str, str]]
    answers: tuple[str, ...]
    source: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", tuple(self.answers))
        if isinstance(self.prompt, str):
            object.__setattr__(self, "prompt", [{"role": "user", "content": self.prompt}])
        _check(self)

    @property
    def fingerprint(self) -> str:
        """Hex digits that differ as soon as a character of the prompt or of an answer does (16 of a sha256)."""
        content = {"prompt": [dict(message) for message in self.prompt], "answers": list(self.answers)}
        return hashlib.sha256(strict_json.dump(content)).hexdigest()[:16]


def _check(item: Item) -> None:
    """ValueError for an item that a page could not show or a record could not name."""
    if not (isinstance(item.id, str) and 0 < len(item.id) <= LONGEST_ID):
        raise ValueError(f"id is {str(item.id)[:40]!r}; expected 1 to {LONGEST_ID} characters that name the item")
    if not FEWEST_ANSWERS <= len(item.answers) <= MOST_ANSWERS:
        counts = f"{len(item.answers)} answers; expected {FEWEST_ANSWERS} to {MOST_ANSWERS}"
        raise ValueError(f"item {item.id!r} has {counts}: there must be something to compare")
    if not all(isinstance(answer, str) for answer in item.answers):
        raise ValueError(f"item {item.id!r} has an answer that is no text")
    try:
        check_open(item.prompt)
    except ValueError as error:
        raise ValueError(f"item {item.id!r}: prompt: {error}") from None
    if not any(message["content"].strip() for message in item.prompt if message["role"] != "system"):
        raise ValueError(f"item {item.id!r} has an empty prompt; expected a text or a list of messages")


def read_items(path: str | os.PathLike[str]) -> list[Item]:
    """The items of a JSONL file, in its order. FormatError names the line at fault; an id must not occur twice."""
    items: list[Item] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        record = strict_json.parse(line, file=path, field=f"line {number}", schema=_SCHEMA)
        try:
            item = Item(**{**record, "data": record.get("data") or {}})
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: {error}") from None
        if item.id in lines:
            raise FormatError(path, field=f"line {number}: id", expected="an id of its own", found=f"{item.id!r} again")
        lines[item.id] = number
        items.append(item)
    if not items:
        raise FormatError(path, field="lines", expected="at least one item", found="none")
    return items


def write_items(path: str | os.PathLike[str], items: Iterable[Item]) -> None:
    """Writes the items as JSONL, whole or not at all."""
    write_file(path, b"".join(strict_json.dump(_record(item)) + b"\n" for item in items))


def _record(item: Item) -> dict[str, Any]:
    """The JSON object of an item; what is empty is left out."""
    record: dict[str, Any] = {"id": item.id, "prompt": [dict(message) for message in item.prompt], "answers": list(item.answers)}
    if item.source:
        record["source"] = item.source
    if item.data:
        record["data"] = dict(item.data)
    return record

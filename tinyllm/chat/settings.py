"""What a chat has to know about a model beyond its weights: how much of a conversation it was trained to see, what to ask it.

    chat.json in the model's folder    {"turns": 1, "questions": ["What is 12 times 7?"]}

A small model that learned from single questions reads an earlier one as part of the new one and answers worse with every turn.
So whoever trains it writes down how many turns stood in a conversation there, and a chat gives it no more than that. A folder
without the file says nothing: then the model sees as many turns as its context holds.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyllm.storage import FormatError, strict_json, write_file

FILE = "chat.json"
_SCHEMA: dict[str, Any] = {"turns": (int, None), "questions": [str]}


@dataclass(frozen=True)
class ChatSettings:
    """`turns`: the newest turns that the model is given, None for as many as fit. `questions`: some that it can answer."""

    turns: int | None = None
    questions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.turns is not None and self.turns < 1:
            raise ValueError(f"turns is {self.turns}; expected at least 1, the message to answer, or None for as many as fit")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the file into a model's folder, which is made if need be."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_file(Path(folder) / FILE, strict_json.dump(asdict(self), indent=1))


def read_chat_settings(folder: str | os.PathLike[str]) -> ChatSettings:
    """Those in a model's folder, the defaults if it has none. FormatError for a file that is something else."""
    file = Path(folder) / FILE
    if not file.exists():
        return ChatSettings()
    found = strict_json.read(file, schema=_SCHEMA)
    if found["turns"] is not None and found["turns"] < 1:
        raise FormatError(file, field="turns", expected="null or a whole number of at least 1", found=repr(found["turns"]))
    return ChatSettings(found["turns"], tuple(found["questions"]))


def newest_turns(messages: Sequence[Any], turns: int | None) -> list[Any]:
    """The system message and the newest `turns` turns: a turn is a user's message and all that answers it."""
    starts = [i for i, message in enumerate(messages) if message["role"] == "user"]
    if turns is None or len(starts) <= turns:
        return list(messages)
    system = [message for message in messages[:1] if message["role"] == "system"]
    return [*system, *messages[starts[-turns] :]]

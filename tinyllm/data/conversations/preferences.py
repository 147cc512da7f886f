"""Preferences: of two answers to one prompt, which a person (or a simulated one) liked better.

    TRL                  {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}           texts, or lists of messages
    implicit prompt      {"chosen": [messages], "rejected": [messages]}                      equal up to the last message
    Anthropic's HH       {"chosen": "\\n\\nHuman: Hi\\n\\nAssistant: Hello!", "rejected": ...}    transcripts, likewise
    ours                 {"prompt": [messages], "chosen": "Hello!", "rejected": "What?", "margin": 1.0, "source": "anna"}

All become `Preference`. A pair of equal answers says nothing (its log-odds are 0 whatever the model), and two different
prompts cannot be compared: such records are skipped and counted, as everything that `records` calls a Skip.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyllm.data.conversations.messages import (
    SYSTEM,
    Conversation,
    as_messages,
    check_text,
    check_turns,
    read_turns,
    with_roles,
    with_system,
)
from tinyllm.data.records import ReadReport, Skip, Where, read_each
from tinyllm.storage import write_file

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_HUMAN = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Preference:
    """One judgement. `prompt` is a conversation up to the answer; `chosen` and `rejected` are two answers to it."""

    prompt: list[dict[str, str]]
    chosen: str
    rejected: str
    margin: float | None = None  # how much better, in the labeler's own units
    source: str = ""  # who said so


def read_preferences(
    path: str | os.PathLike[str], *, roles: Mapping[str, str] | None = None
) -> tuple[list[Preference], ReadReport]:  # fmt: skip
    """The preferences in a .jsonl or .json file of any format above; what was skipped and why, which keys were not used.

    roles  names of speakers beyond messages.ROLES. Raises FormatError if the file is not of records; ValueError if nothing
    is left.
    """
    known = with_roles(roles)
    return read_each(path, lambda record, where: _read(record, where, known))


def write_preferences(path: str | os.PathLike[str], preferences: Sequence[Preference]) -> None:
    """Write them one a line, whole or not at all, so that `read_preferences` gives the same ones back.

    ValueError for a pair that would be skipped there.
    """
    lines = []
    for i, one in enumerate(preferences):
        try:
            _check(one)
        except Skip as reason:
            raise ValueError(f"preferences[{i}]: expected a pair that can be learned from, got one {reason}") from None
        record: dict[str, Any] = {"prompt": one.prompt, "chosen": one.chosen, "rejected": one.rejected}
        if one.margin is not None:
            record["margin"] = one.margin
        if one.source:
            record["source"] = one.source
        lines.append(json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n")
    if not lines:
        raise ValueError("preferences: got none, expected at least one")
    write_file(path, b"".join(lines))


def _read(record: Any, where: Where, roles: Mapping[str, str]) -> Preference:
    """One record of any format."""
    where.object(record)
    for key in ("chosen", "rejected"):
        if key not in record:
            raise where.at(key).error("this key, of a preference", f"only the keys {', '.join(record) or '(none)'}")
        where.at(key).check(record[key], (str, [object]))
    margin = where.at("margin").check(record.get("margin"), (float, None))
    source = record.get("source")
    prompt, chosen = _prompt_and_answer(record, "chosen", where, roles)
    same_prompt, rejected = _prompt_and_answer(record, "rejected", where, roles)
    if prompt != same_prompt:
        raise Skip("whose two answers have different prompts")
    where.object(record, ("prompt", "chosen", "rejected", "margin", *SYSTEM))
    prompt = with_system(record, prompt, where)
    source = source if isinstance(source, str) else ""
    for answer in (chosen, rejected):
        check_text(answer, where)
    return _check(Preference(prompt, chosen, rejected, None if margin is None else float(margin), source))


def _prompt_and_answer(
    record: dict[str, Any], key: str, where: Where, roles: Mapping[str, str]
) -> tuple[Conversation, str]:  # fmt: skip
    """The conversation before the answer under `key`, and that answer's text."""
    value, prompt = record[key], record.get("prompt")
    before = None if prompt is None else as_messages(prompt, "user", where.at("prompt"), roles=roles)
    if isinstance(value, str) and before is not None:
        return before, value if isinstance(prompt, list) else value.strip()
    if isinstance(value, str):
        messages = _read_transcript(value, where.at(key))
    else:
        messages = _with_prompt(read_turns(value, where.at(key), roles), before)
    if not messages or messages[-1]["role"] != "assistant":
        raise Skip("whose last message is not the assistant's")
    if "tool_call" in messages[-1]:
        raise Skip("whose answer is a tool call")
    return messages[:-1], messages[-1]["content"]


def _with_prompt(messages: Conversation, before: Conversation | None) -> Conversation:
    """The whole conversation: `messages` alone if they begin with the user, else after the prompt.

    Some files repeat the user's message as "prompt" beside whole conversations; then the two must agree.
    """
    if before is None:
        return messages
    if not messages or messages[0]["role"] == "assistant":
        return before + messages
    asked = [message["content"].strip() for message in messages if message["role"] == "user"]
    if any(message["content"].strip() not in asked for message in before if message["role"] == "user"):
        raise Skip("whose two answers have different prompts")
    return messages


def _read_transcript(text: str, where: Where) -> Conversation:
    """ "\\n\\nHuman: Hi\\n\\nAssistant: Hello!" as messages."""
    first, *parts = _SPEAKER.split("\n\n" + text.lstrip("\n"))
    if first.strip() or not parts:
        raise where.error('a "prompt" beside this text, or a transcript that begins with "\\n\\nHuman:"', text)
    return [{"role": _HUMAN[who], "content": said.strip()} for who, said in zip(parts[::2], parts[1::2], strict=True)]


def _check(one: Preference) -> Preference:
    """The preference itself; Skip if nothing can be learned from it."""
    if not one.prompt or not any(message["content"].strip() for message in one.prompt if message["role"] != "system"):
        raise Skip("with an empty prompt")
    if not (one.chosen.strip() and one.rejected.strip()):
        raise Skip("with an empty answer")
    if one.chosen == one.rejected:
        raise Skip("whose two answers are equal")
    if one.margin is not None and not math.isfinite(one.margin):
        raise Skip("whose margin is not a number")
    if not one.prompt[0]["content"].strip() and one.prompt[0]["role"] == "system":
        one = Preference(one.prompt[1:], one.chosen, one.rejected, one.margin, one.source)
    check_turns([*one.prompt, {"role": "assistant", "content": one.chosen}])
    return one

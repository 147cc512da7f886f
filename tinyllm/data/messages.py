"""Conversations from the formats people publish them in, all as one: a list of {"role": ..., "content": ...} dicts.

    messages            {"messages": [{"role": "user", "content": "Hi"}, ...]}              OpenAI's; a bare list does too
    ShareGPT            {"conversations": [{"from": "human", "value": "Hi"}, ...]}
    Alpaca, Dolly       {"instruction": "Add.", "input": "1 2", "output": "3"}              (context, response)
    prompt-completion   {"prompt": "Hi", "completion": " Hello"}                            texts, or lists of messages

The first record's keys tell which it is. Roles come out as system, user, assistant, tool; a call of the calculator as
{"role": "assistant", "content": "", "tool_call": "12*7"}. What cannot be learned from is a counted skip (`records`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from tinyllm.data.records import ReadReport, Skip, Where, read_records
from tinyllm.storage import FormatError, strict_json

Conversation = list[dict[str, str]]
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "tool_response": "tool", "function_response": "tool",
    "call": "call", "function_call": "call", "tool_call": "call",
}  # fmt: skip
CALCULATORS = ("calculator", "calculate", "calc")  # names of tools that take one expression
_ANY = strict_json.Optional(object)
_CALL = {"function": {"name": str, "arguments": object}, "type": _ANY, "id": _ANY, "index": _ANY}  # one of OpenAI's tool_calls
# Who may speak after whom; the same as tokenizers/chat.py asks ("call": an assistant's message with a tool_call).
FOLLOWING = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "call": ("tool",),
    "tool": ("assistant",),
}


def read_conversations(path: str | os.PathLike[str]) -> tuple[list[Conversation], ReadReport]:
    """The conversations in a .jsonl or .json file of any format above, and what was skipped and why.

    Raises FormatError with file, line, key, what was expected and what came; ValueError if nothing is left.
    """
    report = ReadReport(str(path))
    conversations: list[Conversation] = []
    keys: tuple[str, ...] | None = None
    for place, record in read_records(path):
        report.n_records += 1
        where = Where(path, place)
        if isinstance(record, list):
            record = {"messages": record}
        where.check(record, strict_json.MapOf(object))
        keys = keys or _detect(record, where)
        for key in keys:
            where.require(record, key)
        try:
            conversations.append(checked(FORMATS[keys](record, where)))
        except Skip as reason:
            report.skip(str(reason), place)
    report.check_some_left(conversations)
    return conversations, report


def checked(messages: Conversation) -> Conversation:
    """The conversation without an empty system message; Skip if it cannot teach an answer."""
    if messages and messages[0]["role"] == "system" and not messages[0]["content"].strip():
        messages = messages[1:]
    check_turns(messages)
    if not any(message["role"] == "assistant" for message in messages):
        raise Skip("without an answer of the assistant")
    return messages


def check_turns(messages: Conversation) -> None:
    """Skip if there are no messages, an empty one, or speakers out of turn."""
    if not messages:
        raise Skip("without messages")
    if any(not message["content"].strip() and not message.get("tool_call", "").strip() for message in messages):
        raise Skip("with an empty message")
    before = None
    for message in messages:
        if message["role"] not in FOLLOWING[before]:
            raise Skip("with speakers out of turn")
        before = "call" if "tool_call" in message else message["role"]


def read_turns(turns: Any, where: Where) -> Conversation:
    """A list of {"role", "content"} or {"from", "value"} dicts, of whatever names for roles and tools, as messages."""
    where.check(turns, [object])
    messages = []
    for i, turn in enumerate(turns):
        messages.append(_read_turn(where.item(i).check(turn, strict_json.MapOf(object)), where.item(i)))
    return messages


def _read_turn(turn: dict[str, Any], where: Where) -> dict[str, str]:
    role_key, text_key = ("from", "value") if "from" in turn else ("role", "content")
    name = where.at(role_key).check(turn.get(role_key), str)
    role = ROLES.get(name)
    if role is None:
        raise where.at(role_key).error(f"one of {', '.join(ROLES)}", name)
    if turn.get("weight") == 0 and role == "assistant":
        raise Skip("with an answer of weight 0, which is not to be learned")
    if text_key not in turn and not turn.get("tool_calls"):
        raise where.at(text_key).error("a string", f"only the keys {', '.join(turn)}")
    content = _content(turn.get(text_key), where.at(text_key))
    if role == "call":
        return {"role": "assistant", "content": "", "tool_call": _expression_of_json(content)}
    message = {"role": role, "content": content}
    if "tool_call" in turn:
        return {**message, "tool_call": where.at("tool_call").check(turn["tool_call"], str)}
    return {**message, "tool_call": _only_call(turn["tool_calls"], where)} if turn.get("tool_calls") else message


def _content(value: Any, where: Where) -> str:
    """A text, null, or OpenAI's list of parts, of which only those of text can be read."""
    if not isinstance(value, list):
        return "" if where.check(value, (str, None)) is None else value
    parts = where.check(value, [strict_json.MapOf(object)])
    if any(part.get("type") != "text" for part in parts):
        raise Skip("with pictures or other parts that are not text")
    return "".join(where.at("text").check(part.get("text"), str) for part in parts)


def _only_call(calls: Any, where: Where) -> str:
    """The expression of the single call in OpenAI's tool_calls."""
    where.at("tool_calls").check(calls, [_CALL])
    if len(calls) > 1:
        raise Skip("with several tool calls at once")
    return _expression(calls[0]["function"]["name"], calls[0]["function"]["arguments"])


def _expression_of_json(text: str) -> str:
    """The expression in {"name": "calculator", "arguments": {...}}; a text that is not JSON is the expression itself."""
    try:
        call = strict_json.parse(text, file="", schema=strict_json.MapOf(object))
    except FormatError:
        return text
    return _expression(call.get("name"), call.get("arguments"))


def _expression(name: Any, arguments: Any) -> str:
    """The one argument of a calculator's call; Skip for another tool or other arguments."""
    if name not in CALCULATORS:
        raise Skip("with a call of a tool that is not a calculator")
    if isinstance(arguments, str):
        try:
            arguments = strict_json.parse(arguments, file="", schema=strict_json.MapOf(object))
        except FormatError:
            return str(arguments)
    values = list(arguments.values()) if isinstance(arguments, dict) else []
    if len(values) != 1 or not isinstance(values[0], str):
        raise Skip("with a calculator's call that is not one expression")
    return values[0]


def _read_alpaca(record: dict[str, Any], where: Where) -> Conversation:
    """instruction, input, output; Dolly says context and response. Optional: system, history [[asked, answered], ...]."""
    asked = [where.text(record, "instruction"), where.text(record, "input") or where.text(record, "context")]
    answered = where.text(record, "output" if "output" in record else "response")
    history = where.at("history").check(record.get("history") or [], [[str]])
    messages = [{"role": "system", "content": where.text(record, "system")}] if record.get("system") else []
    for pair in [*history, ["\n\n".join(part for part in asked if part.strip()), answered]]:
        if len(pair) != 2:
            raise where.at("history").error("pairs of question and answer", pair)
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return messages


def _read_prompt_completion(record: dict[str, Any], where: Where) -> Conversation:
    return [
        *as_messages(record["prompt"], "user", where.at("prompt")),
        *as_messages(record["completion"], "assistant", where.at("completion")),
    ]


def as_messages(value: Any, role: str, where: Where) -> Conversation:
    """A list of messages as it is; a text as one message of `role`, without the spaces that join it to its neighbour."""
    if isinstance(value, list):
        return read_turns(value, where)
    return [{"role": role, "content": where.check(value, (str, [object])).strip()}]


FORMATS: dict[tuple[str, ...], Callable[[dict[str, Any], Where], Conversation]] = {
    ("messages",): lambda record, where: read_turns(record["messages"], where.at("messages")),
    ("conversations",): lambda record, where: read_turns(record["conversations"], where.at("conversations")),
    ("instruction", "output"): _read_alpaca,
    ("instruction", "response"): _read_alpaca,
    ("prompt", "completion"): _read_prompt_completion,
}


def _detect(record: dict[str, Any], where: Where) -> tuple[str, ...]:
    """The keys of the first format that this record has all keys of."""
    for keys in FORMATS:
        if all(key in record for key in keys):
            return keys
    known = "; ".join(" and ".join(keys) for keys in FORMATS)
    raise where.error(f"a record with the keys of a known format ({known})", f"the keys {', '.join(record) or '(none)'}")

"""Conversations from the formats people publish them in, all as one: a list of {"role": ..., "content": ...} dicts.

    messages            {"messages": [{"role": "user", "content": "Hi"}, ...]}              OpenAI's; a bare list does too
    ShareGPT            {"conversations": [{"from": "human", "value": "Hi"}, ...]}
    Alpaca, Dolly       {"instruction": "Add.", "input": "1 2", "output": "3"}              (context, response)
    prompt-completion   {"prompt": "Hi", "completion": " Hello"}                            texts, or lists of messages

Each record's keys tell which it is; a "system" beside them is the system message. Roles come out as system, user, assistant,
tool; a call of the calculator as {"role": "assistant", "content": "", "tool_call": "12*7"}, the only tool there is: definitions
of tools have no place in the chat format. What is skipped or not used is counted (`records`).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from tinyllm.data.records import ReadReport, Skip, Where, read_each
from tinyllm.storage import FormatError, strict_json

Conversation = list[dict[str, str]]
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "ai": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "tool_response": "tool", "function_response": "tool",
    "call": "call", "function_call": "call", "tool_call": "call",
}  # fmt: skip
CALCULATORS = ("calculator", "calculate", "calc")  # names of tools that take one expression
SYSTEM = ("system", "system_prompt")  # keys of a record that hold the system message
# Keys of a turn that are used, or whose loss is none: which call a tool answers is plain, there being one at a time.
TURN = ("role", "content", "from", "value", "tool_call", "tool_calls", "function_call", "weight", "name", "tool_call_id")
Reader = Callable[[dict[str, Any], "Where", Mapping[str, str]], Conversation]
# Who may speak after whom; the same as tokenizers/chat.py asks ("call": an assistant's message with a tool_call).
FOLLOWING = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "call": ("tool",),
    "tool": ("assistant",),
}


def read_conversations(
    path: str | os.PathLike[str], *, roles: Mapping[str, str] | None = None
) -> tuple[list[Conversation], ReadReport]:  # fmt: skip
    """The conversations in a .jsonl or .json file of any format above; what was skipped and why, which keys were not used.

    roles  names of speakers beyond ROLES: {"bing": "assistant"}. A conversation with an unknown speaker is skipped.

    Raises FormatError if the file is not of records; ValueError if nothing is left.
    """
    known = with_roles(roles)

    def read(record: Any, where: Where) -> Conversation:
        if isinstance(record, list):
            record = {"messages": record}
        keys = _detect(where.object(record), where)
        reader, used = FORMATS[keys]
        where.object(record, (*keys, *used, *SYSTEM))
        return checked(with_system(record, reader(record, where, known), where))

    return read_each(path, read)


def read_prompts(
    path: str | os.PathLike[str], *, roles: Mapping[str, str] | None = None
) -> tuple[list[Conversation], ReadReport]:  # fmt: skip
    """The prompts in a .jsonl or .json file, each a conversation up to where the assistant speaks; the report as above.

    A record holds {"prompt": text or messages}, or is a conversation or an instruction as above, whose last answer is left out.
    """
    known = with_roles(roles)

    def read(record: Any, where: Where) -> Conversation:
        if isinstance(record, list):
            record = {"messages": record}
        where.object(record)
        if "prompt" in record:
            used: tuple[str, ...] = ("prompt",)
            messages = as_messages(record["prompt"], "user", where.at("prompt"), roles=known)
        else:
            shape = next((keys for keys in FORMATS if keys[0] in record), None)
            if shape is None:
                expected = '"prompt" (text or messages), "messages", "conversations" or "instruction"'
                raise where.error(expected, f"the keys {', '.join(record) or '(none)'}")
            reader, more = FORMATS[shape]
            used = (*shape, *more)
            messages = reader(record, where, known)
        where.object(record, (*used, *SYSTEM))
        messages = with_system(record, messages, where)
        while messages and messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        check_turns(messages)
        if messages[-1]["role"] == "system":
            raise Skip("without a question")
        return messages

    return read_each(path, read)


def with_roles(roles: Mapping[str, str] | None) -> dict[str, str]:
    """ROLES and those of `roles`. ValueError for one that is said to be nobody known."""
    for name, role in (roles or {}).items():
        if role not in set(ROLES.values()):
            known = ", ".join(dict.fromkeys(ROLES.values()))
            raise ValueError(f"roles: {name!r} is said to be {role!r}; expected one of {known}")
    return ROLES | {name.strip().lower(): role for name, role in (roles or {}).items()}


def with_system(record: Mapping[str, Any], messages: Conversation, where: Where) -> Conversation:
    """The messages behind the system message that the record has beside them, if it has one."""
    texts = [where.at(key).check(record[key], str) for key in SYSTEM if record.get(key)]
    if not texts:
        return messages
    own = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    if len({text.strip() for text in (*texts, own) if text.strip()}) > 1:
        raise Skip("with two different system messages")
    return [{"role": "system", "content": texts[0]}, *(messages[1:] if own else messages)]


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


def read_turns(turns: Any, where: Where, roles: Mapping[str, str] = ROLES) -> Conversation:
    """A list of {"role", "content"} or {"from", "value"} dicts, of whatever names for roles and tools, as messages."""
    where.check(turns, [object])
    return [_read_turn(where.item(i).object(turn, TURN), where.item(i), roles) for i, turn in enumerate(turns)]


def _read_turn(turn: dict[str, Any], where: Where, roles: Mapping[str, str]) -> dict[str, str]:
    role_key, text_key = ("from", "value") if "from" in turn else ("role", "content")
    name = where.at(role_key).check(turn.get(role_key), str)
    role = roles.get(name.strip().lower())
    if role is None:
        raise Skip(f"with the unknown role {name[:40]!r}")
    if turn.get("weight") == 0 and role == "assistant":
        raise Skip("with an answer of weight 0, which is not to be learned")
    calls = turn.get("tool_calls") or ([{"function": turn["function_call"]}] if turn.get("function_call") else [])
    if text_key not in turn and not calls:
        raise where.at(text_key).error("a string", f"only the keys {', '.join(turn)}")
    content = check_text(_content(turn.get(text_key), where.at(text_key)), where)
    if role == "call":
        return {"role": "assistant", "content": "", "tool_call": _expression_of_json(content)}
    message = {"role": role, "content": content}
    if turn.get("tool_call") is not None:
        return {**message, "tool_call": where.at("tool_call").check(turn["tool_call"], str)}
    return {**message, "tool_call": _only_call(calls, where)} if calls else message


def check_text(text: str, where: Where) -> str:
    """The text itself; control tokens in it go into the report."""
    if where.report is not None:
        where.report.check_text(text, where.place)
    return text


def _content(value: Any, where: Where) -> str:
    """A text, null, or OpenAI's list of parts, of which only those of text can be read."""
    if not isinstance(value, list):
        return "" if where.check(value, (str, None)) is None else value
    parts = [where.item(i).object(part) for i, part in enumerate(value)]
    if any(part.get("type") != "text" for part in parts):
        raise Skip("with pictures or other parts that are not text")
    return "".join(where.at("text").check(part.get("text"), str) for part in parts)


def _only_call(calls: Any, where: Where) -> str:
    """The expression of the single call in OpenAI's tool_calls."""
    where.at("tool_calls").check(calls, [strict_json.MapOf(object)])
    if len(calls) > 1:
        raise Skip("with several tool calls at once")
    function = where.at("tool_calls").item(0).at("function").object(calls[0].get("function"))
    return _expression(function.get("name"), function.get("arguments"))


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


def _read_alpaca(record: dict[str, Any], where: Where, roles: Mapping[str, str]) -> Conversation:
    """instruction, input, output; Dolly says context and response. Optional: history [[asked, answered], ...]."""
    asked = [where.text(record, "instruction"), where.text(record, "input") or where.text(record, "context")]
    answered = where.text(record, "output" if "output" in record else "response")
    history = where.at("history").check(record.get("history") or [], [[str]])
    messages: Conversation = []
    for pair in [*history, ["\n\n".join(part for part in asked if part.strip()), answered]]:
        if len(pair) != 2:
            raise where.at("history").error("pairs of question and answer", pair)
        pair = [check_text(text, where) for text in pair]
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return messages


def _read_prompt_completion(record: dict[str, Any], where: Where, roles: Mapping[str, str]) -> Conversation:
    return [
        *as_messages(record["prompt"], "user", where.at("prompt"), roles=roles),
        *as_messages(record["completion"], "assistant", where.at("completion"), roles=roles),
    ]


def as_messages(value: Any, role: str, where: Where, *, roles: Mapping[str, str] = ROLES) -> Conversation:
    """A list of messages as it is; a text as one message of `role`, without the spaces that join it to its neighbour."""
    if isinstance(value, list):
        return read_turns(value, where, roles)
    return [{"role": role, "content": check_text(where.check(value, (str, [object])), where).strip()}]


def _read_list_under(key: str) -> Reader:
    """The reader of a format that has its messages as a list under one key."""
    return lambda record, where, roles: read_turns(record[key], where.at(key), roles)


# The keys that tell a format -> its reader, and the other keys that this uses.
FORMATS: dict[tuple[str, ...], tuple[Reader, tuple[str, ...]]] = {
    ("messages",): (_read_list_under("messages"), ()),
    ("conversations",): (_read_list_under("conversations"), ()),
    ("instruction", "output"): (_read_alpaca, ("input", "context", "history")),
    ("instruction", "response"): (_read_alpaca, ("input", "context", "history")),
    ("prompt", "completion"): (_read_prompt_completion, ()),
}


def _detect(record: dict[str, Any], where: Where) -> tuple[str, ...]:
    """The keys of the first format that this record has all keys of."""
    for keys in FORMATS:
        if all(key in record for key in keys):
            return keys
    known = "; ".join(" and ".join(keys) for keys in FORMATS)
    raise where.error(f"a record with the keys of a known format ({known})", f"the keys {', '.join(record) or '(none)'}")

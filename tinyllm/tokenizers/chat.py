"""A conversation as ids: who speaks is said by control tokens, which only code can write.

    <|endoftext|> <|user|> 12 times 7? <|end|> <|assistant|> <|call|> 12*7 <|end|> <|tool|> 84 <|end|> <|assistant|> 84. <|end|>

The idea is ChatML's (OpenAI 2023) with one token for "a turn of this role begins". Each text is encoded by itself, as
ordinary text: who types "<|end|>" sends these letters, and no text can end its turn or speak for another. With the ids
comes a mask, True for what the assistant itself says (its <|call|> and <|end|> too): only that is learned, since a
model should answer users and not imitate them. A base model has no control tokens; `PlainChatFormat` writes names
instead, which users can forge. How other models' conversations are written, `chat_templates.py` says.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tinyllm.tokenizers.special import CONTROL_TOKENS
from tinyllm.tokenizers.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant", "tool")
# Whose turn may follow: None is the start, "call" an assistant's message that calls a tool.
FOLLOWING = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "call": ("tool",),
    "tool": ("assistant",),
}
Message = Mapping[str, str]


def check_messages(messages: Sequence[Message]) -> None:
    """ValueError unless `messages` is the beginning of a conversation, each message a dict of role, content (, tool_call).

    The order: an optional system message, then user and assistant in turn; a tool's answer follows the assistant's call.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        example = '[{"role": "user", "content": "Hi"}]'
        raise ValueError(f"messages: got a {type(messages).__name__}, expected a list such as {example}")
    if not messages:
        raise ValueError("messages: got an empty conversation, expected at least one message")
    before: str | None = None
    for i, message in enumerate(messages):
        _check_message(message, f"messages[{i}]")
        role = message["role"]
        if role not in FOLLOWING[before]:
            place = "at the start" if before is None else f"after {_NAMED.get(before, before)}"
            raise ValueError(f"messages[{i}]: got role {role!r} {place}, expected {' or '.join(map(repr, FOLLOWING[before]))}")
        before = "call" if "tool_call" in message else role


_NAMED = {"call": "an assistant's tool_call", "tool": "a tool's answer", "system": "the system message"}


def _check_message(message: Any, where: str) -> None:
    """One message by itself: its keys, their types, its role."""
    if not isinstance(message, Mapping):
        raise ValueError(f'{where}: got {message!r:.80}, expected a dict with "role" and "content"')
    for key in ("role", "content"):
        if key not in message:
            raise ValueError(f"{where}: has no {key!r}; expected the keys role and content, got {', '.join(map(repr, message))}")
    for key, value in message.items():
        if key not in ("role", "content", "tool_call"):
            raise ValueError(f"{where}: got the key {key!r}, expected role, content and (assistant only) tool_call")
        if not isinstance(value, str):
            raise ValueError(f"{where}: {key} is a {type(value).__name__}, expected str")
    if message["role"] not in ROLES:
        raise ValueError(f"{where}: got role {message['role']!r}, expected one of {', '.join(map(repr, ROLES))}")
    if "tool_call" in message and message["role"] != "assistant":
        raise ValueError(f"{where}: got a tool_call from {message['role']!r}; only the assistant calls tools")


def check_open(messages: Sequence[Message]) -> None:
    """ValueError unless `messages` is a conversation in which the assistant is to speak next."""
    check_messages(messages)
    last = messages[-1]
    if last["role"] not in ("user", "tool"):
        who = "the assistant's call, which waits for the tool" if "tool_call" in last else f"of role {last['role']!r}"
        raise ValueError(f"messages: the last one is {who}; expected a user's message or a tool's answer to reply to")


class ChatFormat:
    """Conversations for a tokenizer that has <|endoftext|> and all CONTROL_TOKENS. ValueError names the missing ones.

    `end_id` ends each turn, `call_id` begins a tool call; `stop_strings` is empty (`PlainChatFormat` has some).
    """

    stop_strings: tuple[str, ...] = ()

    def __init__(self, tokenizer: Tokenizer):
        special = tokenizer.special_tokens
        missing = [name for name in CONTROL_TOKENS if name not in special]
        if tokenizer.eos_id is None:
            missing.append("<|endoftext|>")
        if missing:
            advice = "add them with tokenizer.with_special_tokens (and to a model with models.extend_vocabulary)"
            raise ValueError(f"tokenizer: has no {', '.join(missing)}, which a chat needs; {advice}")
        self.tokenizer = tokenizer
        self.start_id = int(tokenizer.bos_id)  # type: ignore[arg-type]
        self.role_ids = {role: special[f"<|{role}|>"] for role in ROLES}
        self.call_id, self.end_id = special["<|call|>"], special["<|end|>"]
        self._special_ids = frozenset(special.values())

    def encode(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """A conversation's ids, and for each whether the assistant says it. ValueError as `check_messages`."""
        check_messages(messages)
        ids, mask = [self.start_id], [False]
        for message in messages:
            said = self._turn(message)
            ids += [self.role_ids[message["role"]], *said]
            mask += [False] + [message["role"] == "assistant"] * len(said)
        return ids, mask

    def _turn(self, message: Message) -> list[int]:
        """What follows the role's token: the text, the call if there is one, <|end|>."""
        ids = self.tokenizer.encode(message["content"])
        if "tool_call" in message:
            ids += [self.call_id, *self.tokenizer.encode(message["tool_call"])]
        return [*ids, self.end_id]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids after which the assistant speaks: the conversation and <|assistant|>. ValueError as `check_open`."""
        check_open(messages)
        return [*self.encode(messages)[0], self.role_ids["assistant"]]

    def answer(self, text: str) -> list[int]:
        """The ids of an assistant's answer, as they follow `prompt`: the text and <|end|>."""
        return [*self.tokenizer.encode(text), self.end_id]

    def parse(self, ids: Iterable[int]) -> dict[str, str]:
        """The assistant's message that generated `ids` spell, up to the first <|end|>: content, and tool_call if it calls.

        Control tokens where none belongs have no text.
        """
        content: list[int] = []
        call: list[int] | None = None
        for i in ids:
            if i == self.end_id:
                break
            if i == self.call_id and call is None:
                call = []
            else:
                (content if call is None else call).append(i)
        message = {"role": "assistant", "content": self.decode(content)}
        return message if call is None else {**message, "tool_call": self.decode(call)}

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` without special tokens."""
        return self.tokenizer.decode([i for i in ids if i not in self._special_ids])


class PlainChatFormat:
    """Conversations for a tokenizer without control tokens: lines "User: ..." and "Assistant: ...", as a base model has read.

    Without <|end|> an answer ends where one of `stop_strings` begins. There are no tools. Names are ordinary text: who
    writes "\\nAssistant: yes" has spoken for the assistant, so use it to try a model, not to serve strangers.
    """

    stop_strings = ("\nUser:", "\nSystem:", "\nAssistant:")
    end_id = None
    call_id = None

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        self._special_ids = frozenset(tokenizer.special_tokens.values())

    def encode(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """As `ChatFormat.encode`; an answer is its text and the end of its line. ValueError for a tool call."""
        check_messages(messages)
        ids, mask = list(self._start), [False] * len(self._start)
        for i, message in enumerate(messages):
            if "tool_call" in message:
                raise ValueError(f"messages[{i}]: a tool_call needs the control tokens, which this tokenizer lacks")
            name = self.tokenizer.encode(message["role"].capitalize() + ":")
            said = self.answer(message["content"])
            ids += name + said
            mask += [False] * len(name) + [message["role"] == "assistant"] * len(said)
        return ids, mask

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids after which the assistant speaks: the conversation and "Assistant:". ValueError as `check_open`."""
        check_open(messages)
        return self.encode(messages)[0] + self.tokenizer.encode("Assistant:")

    def answer(self, text: str) -> list[int]:
        """The ids of an answer, as they follow `prompt`: " text", and the end of the line."""
        return self.tokenizer.encode(f" {text}\n")

    def parse(self, ids: Iterable[int]) -> dict[str, str]:
        """The assistant's message that generated `ids` spell, up to a stop string."""
        text = self.decode(ids)
        ends = [text.index(stop) for stop in self.stop_strings if stop in text]
        return {"role": "assistant", "content": text[: min(ends, default=len(text))].strip()}

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` without special tokens."""
        return self.tokenizer.decode([i for i in ids if i not in self._special_ids])

"""One turn of a conversation: the model answers, and may call the calculator on the way.

    user: 12 times 7?   ->   assistant: <|call|> 12*7   ->   tool: 84   ->   assistant: It is 84.

The model writes until <|end|>. If what it wrote is a call, its result is put into the conversation as the tool's message and
the model goes on, up to a number of calls. A conversation that has outgrown the context loses its oldest turns, whole
(a turn is a user's message and all that answers it): half a turn would be a lie about who said what. The system
message stays. What happens is told as events, in order, so that a terminal or a server can show it as it comes.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinyllm.chat.calculator import calculate
from tinyllm.decoding.config import GenerationConfig
from tinyllm.decoding.generate import generate_steps
from tinyllm.decoding.stream import TextStream
from tinyllm.models.contract import LanguageModel
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat import Message, PlainChatFormat
from tinyllm.tokenizers.chat_templates import Chat, chat_format

MAX_CALLS = 4  # of the calculator in one reply


@dataclass(frozen=True)
class Piece:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """The model called the calculator, and this came out."""

    expression: str
    result: str


@dataclass(frozen=True)
class Dropped:
    """The oldest `n_turns` turns of the conversation do not fit the context: the model does not see them."""

    n_turns: int


@dataclass(frozen=True)
class Reply:
    """The end: the messages to add to the conversation, calls and results among them.

    finish_reason: "stop" (the model ended its turn), "length" (max_new_tokens), "context" (no room left), "calls" (too many)
    """

    messages: list[dict[str, str]]
    finish_reason: str

    @property
    def text(self) -> str:
        """All that the assistant said in words."""
        return "".join(message["content"] for message in self.messages if message["role"] == "assistant")


Event = Piece | ToolCall | Dropped | Reply


def reply(
    model: LanguageModel, tokenizer: Tokenizer, messages: Sequence[Message], *, config: GenerationConfig | None = None,
    rng: np.random.Generator | None = None, calculator: Callable[[str], str] = calculate, max_calls: int = MAX_CALLS,
) -> Iterator[Event]:  # fmt: skip
    """Let the assistant answer `messages`: events as they happen, a Reply last.

    model       anything with the interface of models/gpt.py, trained on chats or not (see tokenizers/chat.py)
    messages    a conversation that ends with the user's (or a tool's) message
    config      max_new_tokens is for each message of the assistant; what the context has no room for is cut off
    calculator  text of a call -> text of its result; it must not raise

    Raises ValueError, at once, for messages that are no conversation, or whose last turn leaves no room for an answer.
    """
    config = config or GenerationConfig()
    if max_calls < 0:
        raise ValueError(f"max_calls is {max_calls}; expected 0 or more")
    if config.samples and not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng is {rng!r}, but temperature {config.temperature} draws at random; pass a np.random.Generator")
    turn = _Turn(model, chat_format(tokenizer), config, rng)
    turn.fit(messages)
    return turn.run(list(messages), calculator, max_calls)


def crop_history(form: Chat, messages: Sequence[Message], *, room: int) -> tuple[list[Message], int]:
    """The newest turns whose prompt has at most `room` ids, after the system message, and how many turns were dropped.

    ValueError if the last turn alone has more, or if `messages` is no conversation.
    """
    form.prompt(messages)
    system = [message for message in messages[:1] if message["role"] == "system"]
    starts = [i for i, message in enumerate(messages) if message["role"] == "user"]
    for n_dropped, start in enumerate(starts):
        kept = [*system, *messages[start:]]
        n_ids = len(form.prompt(kept))
        if n_ids <= room:
            return kept, n_dropped
    what = "the system message and the last turn have" if system else "the last turn has"
    raise ValueError(f"messages: {what} {n_ids} tokens, and the context has room for {room} before an answer; write less")


class _Writing:
    """One message of the assistant while it is written: tokens in, pieces of its text out. `stopped`: it has ended.

    What follows <|call|> is the call and not text. In a plain chat the spaces around it are dropped.
    """

    def __init__(self, form: Chat, stop_tokens: tuple[int, ...], stop_strings: tuple[str, ...]):
        self.call_id = form.call_id
        self._make_stream = lambda: TextStream(form.tokenizer, stop_tokens=stop_tokens, stop_strings=stop_strings)
        self._stream = self._make_stream()
        self._plain = isinstance(form, PlainChatFormat)
        self._begun = not self._plain
        self._content: list[str] = []
        self._call: list[str] | None = None

    @property
    def stopped(self) -> bool:
        return self._stream.stopped

    def feed(self, token: int) -> str:
        """The text that became certain with this token."""
        if token != self.call_id:
            return self._add(self._stream.feed(token))
        piece = self.flush()
        if self._call is None:
            self._call, self._stream = [], self._make_stream()
        return piece

    def flush(self) -> str:
        """The text that was held back, now that none follows."""
        return self._add(self._stream.flush())

    def _add(self, piece: str) -> str:
        if self._call is not None:
            self._call.append(piece)
            return ""
        if not self._begun:
            piece = piece.lstrip()
            self._begun = bool(piece)
        self._content.append(piece)
        return piece

    def message(self) -> dict[str, str]:
        """What was written, with the key tool_call if it calls."""
        text = "".join(self._content)
        message = {"role": "assistant", "content": text.rstrip() if self._plain else text}
        return message if self._call is None else {**message, "tool_call": "".join(self._call)}


class _Turn:
    """One reply in the making."""

    def __init__(self, model: LanguageModel, form: Chat, config: GenerationConfig, rng: Any):
        self.model, self.form, self.config, self.rng = model, form, config, rng
        special = form.tokenizer.special_tokens.values()  # a control token ends the turn
        ends = (i for i in (*form.tokenizer.stop_ids, *special) if i != form.call_id)
        self.stop_tokens = tuple(dict.fromkeys((*config.stop_tokens, *ends)))
        self.block_size = model.config.block_size
        self.reserve = min(config.max_new_tokens, max(self.block_size // 4, 1))  # tokens that an answer can count on

    def fit(self, messages: Sequence[Message]) -> tuple[list[int], int]:
        """The ids of the prompt, and how many turns do not fit."""
        kept, n_dropped = crop_history(self.form, messages, room=self.block_size - self.reserve)
        return self.form.prompt(kept), n_dropped

    def run(self, messages: list[Message], calculator: Callable[[str], str], max_calls: int) -> Iterator[Event]:
        """The events. Every call that is kept is answered, so that the conversation can go on from any reply."""
        new: list[dict[str, str]] = []
        told = 0
        for n_calls in range(max_calls + 1):
            try:
                prompt, n_dropped = self.fit([*messages, *new])
            except ValueError:  # calls have filled the context
                yield Reply([*new, {"role": "assistant", "content": ""}], "context")
                return
            if n_dropped > told:
                yield Dropped(n_dropped)
                told = n_dropped
            message, reason = yield from self.say(prompt)
            call = message.pop("tool_call", None)
            if call is None or reason != "stop" or n_calls == max_calls:  # a call cut short, or one too many, is not run
                yield Reply([*new, message], "calls" if call is not None and reason == "stop" else reason)
                return
            result = calculator(call)
            yield ToolCall(call, result)
            new += [{**message, "tool_call": call}, {"role": "tool", "content": result}]

    def say(self, prompt: list[int]) -> Generator[Piece, None, tuple[dict[str, str], str]]:
        """Generate one message of the assistant: yields Pieces, returns (message, why it ended)."""
        n_now = min(self.config.max_new_tokens, self.block_size - len(prompt))
        config = replace(self.config, max_new_tokens=n_now, stop_tokens=self.stop_tokens, stop_strings=())
        writing = _Writing(self.form, self.stop_tokens, (*self.config.stop_strings, *self.form.stop_strings))
        for step in generate_steps(self.model, [prompt], config=config, rng=self.rng):
            if piece := writing.feed(int(step.tokens[0])):
                yield Piece(piece)
            if writing.stopped:
                break
        if piece := writing.flush():
            yield Piece(piece)
        reason = "stop" if writing.stopped else "length" if n_now == self.config.max_new_tokens else "context"
        return writing.message(), reason

"""From prompt text to generated text, whole or while it is being written.

Two things must be held back when text is shown token by token: the bytes of a character whose rest has not come (the
tokenizer's StreamDecoder does that), and the start of what may become a stop string, which may be spread over several
tokens. So a piece is shown once no stop string can begin in it any more; the pieces joined are the whole text.
A character still unfinished at the very end is dropped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinyllm.decoding.config import GenerationConfig, make_config
from tinyllm.decoding.generate import generate, generate_steps
from tinyllm.models.contract import LanguageModel
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.stream import StreamDecoder


class TextStream:
    """One row's tokens -> pieces of text that are certain. After a stop, `stopped` is True and nothing more comes.

    tokenizer     anything with token_bytes(id), as in tinyllm.tokenizers
    stop_tokens   ids that end the text and have no text themselves
    stop_strings  strings before which the text ends; the one that is complete first counts
    """

    def __init__(self, tokenizer: Tokenizer, *, stop_tokens: Sequence[int] = (), stop_strings: Sequence[str] = ()):
        self.stopped = False
        self._decoder = StreamDecoder(tokenizer)
        self._stop_tokens = stop_tokens
        self._stop_strings = stop_strings
        self._held = ""  # text that may be the start of a stop string

    def feed(self, token: int) -> str:
        """The text that became certain with this token; often "" """
        if self.stopped or token in self._stop_tokens:
            self.stopped = True
            return ""
        self._held += self._decoder.feed(token)
        found = [(self._held.index(stop) + len(stop), -len(stop)) for stop in self._stop_strings if stop in self._held]
        if found:
            end, minus_length = min(found)  # complete first; of several, the one that began first
            self.stopped, self._held, piece = True, "", self._held[: end + minus_length]
            return piece
        n_certain = len(self._held) - self._n_doubtful()
        piece, self._held = self._held[:n_certain], self._held[n_certain:]
        return piece

    def flush(self) -> str:
        """The text held back, now that no token follows. "" after a stop string."""
        piece, self._held = self._held, ""
        return piece

    def _n_doubtful(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        longest = max((len(stop) - 1 for stop in self._stop_strings), default=0)
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-n:]) for stop in self._stop_strings):
                return n
        return 0


def stream_text(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str | bytes | Sequence[int] | np.ndarray, *,
    config: GenerationConfig | None = None,
    rng: np.random.Generator | None = None, **settings: Any,
) -> Iterator[str]:  # fmt: skip
    """Yield what follows `prompt`, piece by piece as it becomes certain; joined, the pieces are `generate_text`.

    prompt  text or its bytes, in which special tokens are ordinary text, or token ids (a chat template's, say). An empty one
            starts from the tokenizer's bos_id: the token that stands between documents.
    config, rng, settings as in `generate_steps`; stop_strings work here, and the tokenizer's stop_ids always stop.
    Raises ValueError as `generate_steps` does, at once.
    """
    config = make_config(config, settings)
    stream = _text_stream(tokenizer, config)
    ids = encode_prompt(tokenizer, prompt)
    steps = generate_steps(model, [ids], config=_for_ids(tokenizer, config), rng=rng)
    return pieces_of(stream, (int(step.tokens[0]) for step in steps))


def generate_text(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str | bytes | Sequence[int] | np.ndarray, *,
    config: GenerationConfig | None = None,
    rng: np.random.Generator | None = None, **settings: Any,
) -> str:  # fmt: skip
    """The text that follows `prompt` (not the prompt itself). Arguments and errors as in `stream_text`."""
    return generate_texts(model, tokenizer, [prompt], config=config, rng=rng, **settings)[0]


def generate_texts(
    model: LanguageModel, tokenizer: Tokenizer, prompts: Sequence[str | bytes | Sequence[int] | np.ndarray], *,
    config: GenerationConfig | None = None, rng: np.random.Generator | None = None, **settings: Any,
) -> list[str]:  # fmt: skip
    """The texts that follow several prompts, generated as one batch. Arguments and errors as in `stream_text`."""
    if isinstance(prompts, str | bytes):
        raise ValueError("prompts is one string; expected a list of prompts, or use generate_text for one")
    config = make_config(config, settings)
    streams = [_text_stream(tokenizer, config) for _ in prompts]

    def ends(row: int, token: int) -> bool:
        streams[row].feed(token)
        return streams[row].stopped

    result = generate(
        model,
        [encode_prompt(tokenizer, prompt) for prompt in prompts],
        config=_for_ids(tokenizer, config),
        rng=rng,
        should_stop=ends if config.stop_strings else None,
    )
    return ["".join(pieces_of(_text_stream(tokenizer, config), iter(tokens))) for tokens in result.tokens]


def pieces_of(stream: TextStream, tokens: Iterator[int]) -> Iterator[str]:
    """The text of `tokens` as it becomes certain, up to the stop; what was held back comes when nothing follows.

    No token after the stop is asked for. This is the one way from tokens to shown text.
    """
    for token in tokens:
        if piece := stream.feed(token):
            yield piece
        if stream.stopped:
            break
    if piece := stream.flush():
        yield piece


def stop_tokens(tokenizer: Tokenizer, config: GenerationConfig) -> tuple[int, ...]:
    """The ids that end a text: those of the settings, and those of the tokenizer and its folder."""
    return (*config.stop_tokens, *tokenizer.stop_ids)


def _text_stream(tokenizer: Tokenizer, config: GenerationConfig) -> TextStream:
    return TextStream(tokenizer, stop_tokens=stop_tokens(tokenizer, config), stop_strings=config.stop_strings)


def _for_ids(tokenizer: Tokenizer, config: GenerationConfig) -> GenerationConfig:
    """The settings for the functions that know no text: eos stops; stop strings are left to TextStream."""
    if config.stop_strings and config.n_beams > 1:
        raise ValueError("stop_strings with n_beams above 1: beam search ends at stop_tokens only; leave one out")
    return replace(config, stop_tokens=stop_tokens(tokenizer, config), stop_strings=())


def encode_prompt(tokenizer: Tokenizer, prompt: str | bytes | Sequence[int] | np.ndarray) -> list[int]:
    """The ids of a prompt, special tokens in it as ordinary text; an empty one begins a document.

    ValueError if it is neither text nor ids, or empty where the tokenizer has no end-of-text token.
    """
    if not isinstance(prompt, str | bytes | Sequence | np.ndarray):
        raise ValueError(f"prompt is a {type(prompt).__name__}; expected text, bytes of text, or a list of token ids")
    ids: list[int] = tokenizer.encode(prompt) if isinstance(prompt, str | bytes) else list(prompt)
    if ids:
        return ids
    if tokenizer.bos_id is None:
        raise ValueError("the prompt is empty, and the tokenizer has no eos_id to start from; give at least a character")
    return [tokenizer.bos_id]

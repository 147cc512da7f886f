"""Text of any length from a model of a fixed context: when the context is full, its older half is let go.

A model of `block_size` positions cannot see further back. The last half of the text becomes the new prompt, is read again
in one pass (its positions are new, so the key/value cache is too), and writing goes on. nanoGPT does the same one
token at a time, at the price of reading everything again for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unicodedata import category

import numpy as np

from tinyllm.decoding import GenerationConfig, TextStream, encode_prompt, generate_steps

Notice = Callable[[str], None]
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # Unicode's direction controls


def harmless(text: str) -> str:
    """`text` for a terminal: what could move the cursor, or turn the writing around, as U+FFFD; a model may write any.

    Other invisible characters stay: joiners, without which an emoji or a Persian word falls apart, and wide spaces.
    """
    return "".join("\ufffd" if c not in "\n\t" and (category(c) in ("Cc", "Cs") or c in TURNING) else c for c in text)


def keep_tail(ids: list[int], *, block_size: int, max_new_tokens: int, notice: Notice = lambda text: None) -> list[int]:
    """A prompt that fits, with room to write in: at least half the context if that much is wanted."""
    room = block_size - min(max_new_tokens, block_size // 2)
    n_dropped = max(len(ids) - max(room, 1), 0)
    if n_dropped:
        lengths = f"the prompt has {len(ids):,} tokens and the model's context holds {block_size}"
        notice(f"{lengths}: its first {n_dropped:,} were dropped")
    return ids[n_dropped:]


def write_on(
    model: Any,
    tokenizer: Any,
    prompt: str | bytes,
    *,
    config: GenerationConfig,
    rng: np.random.Generator,
    notice: Notice = lambda text: None,
) -> Iterator[str]:
    """Yield what follows `prompt`, piece by piece, up to config.max_new_tokens, which may exceed the context.

    notice  is told, in a sentence, when something of the prompt or of the text is dropped
    The tokenizer's end-of-text token always stops. ValueError for bad settings or an empty prompt without one.
    """
    stops = config.stop_tokens if tokenizer.eos_id is None else (*config.stop_tokens, tokenizer.eos_id)
    stream = TextStream(tokenizer, stop_tokens=stops, stop_strings=config.stop_strings)
    block_size, left = model.config.block_size, config.max_new_tokens
    if block_size < 2:
        raise ValueError(f"block_size is {block_size}: a context of one token leaves no room to write; use another model")
    ids = keep_tail(encode_prompt(tokenizer, prompt), block_size=block_size, max_new_tokens=left, notice=notice)
    while left and not stream.stopped:
        if len(ids) >= block_size:
            ids = ids[-(block_size // 2) :]
            notice(f"the text outgrew the context of {block_size} tokens: from here on only its last half is seen")
            notice = lambda text: None  # noqa: E731  once is enough
        n_now = min(left, block_size - len(ids))
        part = replace(config, max_new_tokens=n_now, stop_tokens=stops, stop_strings=())
        for step in generate_steps(model, [ids], config=part, rng=rng):
            token = int(step.tokens[0])
            ids, left = [*ids, token], left - 1
            if piece := stream.feed(token):
                yield piece
            if stream.stopped:
                return
    if piece := stream.flush():
        yield piece

"""Text of any length from a model of a fixed context: when the context is full, its older half is let go.

A model of `block_size` positions cannot see further back. The last half of the text becomes the new prompt, is read again
in one pass (its positions are new, so the key/value cache is too), and writing goes on. nanoGPT does the same one
token at a time, at the price of reading everything again for each.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from tinyllm.decoding.config import GenerationConfig
from tinyllm.decoding.generate import generate_steps
from tinyllm.decoding.stream import TextStream, encode_prompt, pieces_of, stop_tokens
from tinyllm.models.contract import LanguageModel
from tinyllm.tokenizers import Tokenizer

Notice = Callable[[str], None]


def keep_tail(ids: list[int], *, block_size: int, max_new_tokens: int, notice: Notice = lambda text: None) -> list[int]:
    """A prompt that fits, with room to write in: at least half the context if that much is wanted."""
    room = block_size - min(max_new_tokens, block_size // 2)
    n_dropped = max(len(ids) - max(room, 1), 0)
    if n_dropped:
        lengths = f"the prompt has {len(ids):,} tokens and the model's context holds {block_size}"
        notice(f"{lengths}: its first {n_dropped:,} were dropped")
    return ids[n_dropped:]


def write_on(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str | bytes, *, config: GenerationConfig, rng: np.random.Generator | None,
    notice: Notice = lambda text: None,
) -> Iterator[str]:  # fmt: skip
    """Yield what follows `prompt`, piece by piece, up to config.max_new_tokens, which may exceed the context.

    notice  is told, in a sentence, when something of the prompt or of the text is dropped
    The tokenizer's end-of-text token always stops. ValueError for bad settings or an empty prompt without one.
    """
    if model.config.block_size < 2:
        raise ValueError("block_size is 1: a context of one token leaves no room to write; use another model")
    stops = stop_tokens(tokenizer, config)
    ids, block_size = encode_prompt(tokenizer, prompt), model.config.block_size
    ids = keep_tail(ids, block_size=block_size, max_new_tokens=config.max_new_tokens, notice=notice)
    for_ids = replace(config, stop_tokens=stops, stop_strings=())
    stream = TextStream(tokenizer, stop_tokens=stops, stop_strings=config.stop_strings)
    yield from pieces_of(stream, _tokens(model, ids, config=for_ids, rng=rng, notice=notice))


def _tokens(
    model: LanguageModel, ids: list[int], *, config: GenerationConfig, rng: np.random.Generator | None, notice: Notice
) -> Iterator[int]:
    """The tokens that follow `ids`, a stop token last, prompted anew each time the context is full."""
    block_size, left = model.config.block_size, config.max_new_tokens
    while left:
        if len(ids) >= block_size:
            ids = ids[-(block_size // 2) :]
            notice(f"the text outgrew the context of {block_size} tokens: from here on only its last half is seen")
            notice = lambda text: None  # noqa: E731  once is enough
        part = replace(config, max_new_tokens=min(left, block_size - len(ids)))
        for step in generate_steps(model, [ids], config=part, rng=rng):
            token = int(step.tokens[0])
            ids, left = [*ids, token], left - 1
            yield token
            if token in config.stop_tokens:
                return

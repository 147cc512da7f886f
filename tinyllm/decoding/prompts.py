"""Prompts on their way into a model: checked, fitted to the context, padded into one array.

A batch needs one length, so shorter prompts are padded on the left: every row's last real token then stands in the
last column, where the next token is predicted. An attention mask (True = real token) keeps the padding out of attention and out
of the position count, so a padded row means exactly what it means alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyllm.decoding.config import GenerationConfig
from tinyllm.models.contract import LanguageModel


def check_prompts(prompts: Any, *, vocab_size: int) -> list[list[int]]:
    """Prompts as B lists of Python ints, from B lists of ids or an array (B, T).

    Raises ValueError for no prompts, an empty prompt, anything but whole numbers, or an id outside the vocabulary.
    """
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Sequence | np.ndarray):
        raise ValueError(
            f"prompts is a {type(prompts).__name__}; expected lists of token ids, one list a prompt "
            f"(for text use generate_text, or the tokenizer's encode)"
        )
    if len(prompts) == 0:
        raise ValueError("prompts is empty; expected at least one list of token ids")
    if any(np.ndim(prompt) == 0 for prompt in prompts):
        raise ValueError("prompts is one flat list; expected one list of token ids a prompt: wrap it, as in [ids]")
    return [_check_prompt(row, prompt, vocab_size) for row, prompt in enumerate(prompts)]


def _check_prompt(row: int, prompt: Any, vocab_size: int) -> list[int]:
    ids = np.asarray(prompt)
    if ids.size == 0:
        raise ValueError(
            f"prompt {row} is empty; expected at least one token to continue from (the tokenizer's eos_id is the usual start)"
        )
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"prompt {row} has dtype {ids.dtype} and shape {ids.shape}; expected a flat list of ints")
    outside = ids[(ids < 0) | (ids >= vocab_size)]
    if outside.size:
        raise ValueError(
            f"prompt {row} has token id {outside[0]}; the model's vocabulary has {vocab_size} tokens "
            f"(ids 0 to {vocab_size - 1}). Was it encoded with another tokenizer?"
        )
    return ids.tolist()


def check_stop_tokens(stop_tokens: Sequence[int], *, vocab_size: int) -> None:
    """Raise ValueError for a stop token that the model can never produce."""
    for token in stop_tokens:
        if not 0 <= token < vocab_size:
            raise ValueError(
                f"stop_tokens has token id {token}; the model's vocabulary has {vocab_size} tokens (ids 0 to {vocab_size - 1})"
            )


def check_length(n_prompt: int, *, max_new_tokens: int, block_size: int) -> None:
    """Raise ValueError if the prompt and what is asked for do not fit the model's context."""
    if n_prompt + max_new_tokens > block_size:
        raise ValueError(
            f"the prompt has {n_prompt} tokens and max_new_tokens is {max_new_tokens}: "
            f"{n_prompt + max_new_tokens} in all, but the model's context (block_size) is {block_size}. "
            f"Ask for fewer tokens, shorten the prompt, or keep its tail with crop_prompt"
        )


def check_request(model: LanguageModel, prompts: Any, config: GenerationConfig) -> list[list[int]]:
    """All checks of prompts and settings against a model; returns the prompts as B lists of ints."""
    checked = check_prompts(prompts, vocab_size=model.config.vocab_size)
    check_stop_tokens(config.stop_tokens, vocab_size=model.config.vocab_size)
    longest = max(len(prompt) for prompt in checked)
    check_length(longest, max_new_tokens=config.max_new_tokens, block_size=model.config.block_size)
    return checked


def crop_prompt(ids: Sequence[int], *, block_size: int, max_new_tokens: int) -> tuple[list[int], int]:
    """The last tokens of a prompt that leave room for `max_new_tokens`, and how many were dropped at its start.

    ids: token ids -> (ids, n_dropped), len(ids) + max_new_tokens <= block_size. Tell the user if n_dropped > 0: the
    model does not see those tokens. Raises ValueError if max_new_tokens alone fills the context.
    """
    room = block_size - max_new_tokens
    if room < 1:
        raise ValueError(
            f"max_new_tokens is {max_new_tokens} and the model's context (block_size) is {block_size}, "
            f"which leaves no room for a prompt; ask for at most {block_size - 1} tokens"
        )
    n_dropped = max(len(ids) - room, 0)
    return [int(token) for token in ids[n_dropped:]], n_dropped


def left_pad(prompts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray | None]:
    """B lists of ids -> tokens (B, T) padded on the left with 0, and attention mask (B, T), None where nothing is padded."""
    lengths = np.array([len(prompt) for prompt in prompts])
    n_columns = int(lengths.max())
    tokens = np.zeros((len(prompts), n_columns), dtype=np.int64)  # any id would do: the mask hides it
    for row, prompt in zip(tokens, prompts, strict=True):
        row[n_columns - len(prompt) :] = prompt
    if lengths.min() == n_columns:
        return tokens, None
    return tokens, np.arange(n_columns) >= n_columns - lengths[:, None]

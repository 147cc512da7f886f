"""Prompts and their answers as one array: prompts end in the same column, answers begin in the next.

    tokens   . . p p p | a a a s . .        p prompt   a answer   s its stop token   . padding
             p p p p p | a a a a a a        attention_mask: True for p, a, s;  n_prompt = 5 columns

Padding prompts on the left and answers on the right puts the t-th token of every answer into the same column, so that what is
computed per answer token (log-probabilities, values, advantages) is a plain (B, R) array and `response_mask` says which of its
entries mean something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sequences:
    """B prompts with one answer each. P = n_prompt columns of prompt, R columns of answer."""

    tokens: np.ndarray  # (B, P+R) int64
    attention_mask: np.ndarray  # (B, P+R) bool, True = a real token
    n_prompt: int  # P

    @property
    def responses(self) -> np.ndarray:
        """The answers' tokens, (B, R); 0 where they are padding."""
        return self.tokens[:, self.n_prompt :]

    @property
    def response_mask(self) -> np.ndarray:
        """Which of them are real, (B, R) bool."""
        return self.attention_mask[:, self.n_prompt :]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each answer, its stop token included, (B,)."""
        return self.response_mask.sum(axis=1)

    def __len__(self) -> int:
        return len(self.tokens)

    def select(self, rows: np.ndarray) -> Sequences:
        """The given rows, without the columns in which none of them has a real token."""
        used = np.flatnonzero(self.attention_mask[rows].any(axis=0))
        first, end = int(used[0]), int(used[-1]) + 1
        return Sequences(self.tokens[rows, first:end], self.attention_mask[rows, first:end], self.n_prompt - first)


def pad_sequences(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> Sequences:
    """B prompts and B answers, lists of ids -> Sequences. ValueError for an empty one, or for counts that differ."""
    if len(prompts) != len(responses) or not prompts:
        raise ValueError(f"{len(prompts)} prompts and {len(responses)} responses came; expected one response for each prompt")
    for name, lists in (("prompt", prompts), ("response", responses)):
        if empty := [row for row, ids in enumerate(lists) if not len(ids)]:
            raise ValueError(f"{name} {empty[0]} has no token; expected at least one")
    n_prompt, n_response = max(map(len, prompts)), max(map(len, responses))
    tokens = np.zeros((len(prompts), n_prompt + n_response), np.int64)
    attention_mask = np.zeros(tokens.shape, bool)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        real = slice(n_prompt - len(prompt), n_prompt + len(response))
        tokens[row, real] = [*prompt, *response]
        attention_mask[row, real] = True
    return Sequences(tokens, attention_mask, n_prompt)

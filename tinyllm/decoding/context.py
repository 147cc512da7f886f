"""What a model has read so far, for each row of a batch that is still running, and the logits for what comes next.

The prompt is read in one pass (prefill), then each step reads one token a row. With enough rows and steps to come, the first of
these is watched and compiled (`compiled.py`); before that, and for models that cannot be compiled, the model itself is called,
with its key/value cache and a mask that hides the padding of shorter prompts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyllm.autograd import noting_calls
from tinyllm.decoding.compiled import CompiledStep, compile_step
from tinyllm.decoding.logits import check_logits, next_logits

ENOUGH_ROWS, ENOUGH_STEPS = 8, 4  # from here on compiling a step pays


class Context:
    """The texts of R rows, of up to max_length columns. `read` their next tokens, `keep` the rows that go on."""

    def __init__(self, model: Any, n_rows: int, max_length: int):
        self.model, self.cache = model, model.new_cache(n_rows, max_length)
        self.mask: np.ndarray | None = None
        self.columns_left = max_length
        self.step: CompiledStep | None = None
        self.may_compile = hasattr(model, "embed")

    def read(self, tokens: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """tokens (R, T), which continue the texts -> logits (R, V) for the token after them, good until the next call.

        mask (R, T), for the first call: False = padding on the left. ValueError for logits that are not finite.
        """
        self.columns_left -= tokens.shape[1]
        if self.step is not None:
            logits = self.step(tokens.squeeze(1))
            check_logits(logits)
            return logits
        if mask is not None or self.mask is not None:
            parts = [np.ones((len(tokens), self.cache.length), dtype=bool) if self.mask is None else self.mask]
            self.mask = np.concatenate([*parts, np.ones(tokens.shape, dtype=bool) if mask is None else mask], axis=1)
        enough = len(tokens) >= ENOUGH_ROWS and self.columns_left >= ENOUGH_STEPS
        if not (self.may_compile and enough and tokens.shape[1] == 1 and self.cache.length):
            return next_logits(self.model, tokens, cache=self.cache, mask=self.mask)
        with noting_calls() as calls:
            logits = next_logits(self.model, tokens, cache=self.cache, mask=self.mask)
        self.may_compile = False
        self.step = compile_step(self.model, calls, tokens=tokens[:, 0], logits=logits, cache=self.cache, mask=self.mask)
        if self.step is not None:
            del self.cache, self.mask  # the step has its own
        return logits

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with these rows, in this order: the rest need not wait for, or pay for, those that ended.

        Once a step is compiled, none may come twice.
        """
        if self.step is not None:
            self.step.keep(rows)
            return
        self.cache.select(rows)
        self.mask = None if self.mask is None else self.mask[rows]

"""What a model has read so far, for each row of a batch that is still running, and the logits for what comes next.

The prompt is read in one pass (prefill), then each step reads one token a row. With enough rows and steps to come, the first of
these is watched and compiled (`compiled.py`); before that, and for models that cannot be compiled, the model itself is called,
with its key/value cache.
"""

import numpy as np

from tinyllm.autograd import Call, observe_ops
from tinyllm.decoding.compiled import CompiledStep, compile_step
from tinyllm.decoding.logits import check_logits, next_logits
from tinyllm.models.contract import LanguageModel

ENOUGH_ROWS, ENOUGH_STEPS = 8, 4  # from here on compiling a step pays


class PlainStep:
    """The model itself, with what it has read of R rows in its cache."""

    def __init__(self, model: LanguageModel, n_rows: int, max_length: int):
        self.model, self.cache = model, model.new_cache(n_rows, max_length)

    def __call__(self, tokens: np.ndarray, attention_mask: np.ndarray | None = None) -> np.ndarray:
        """Reads tokens (R, T), of which `attention_mask` (R, T) leaves some out; logits (R, V)."""
        return next_logits(self.model, tokens, cache=self.cache, attention_mask=attention_mask)

    def compiled(self, tokens: np.ndarray, attention_mask: np.ndarray | None = None) -> tuple[np.ndarray, CompiledStep | None]:
        """The same for one token a row (R, 1), and the compiled step that can go on from there, if there can be one."""
        calls: list[Call] = []
        with observe_ops(calls.append):
            logits = self(tokens, attention_mask)
        step = compile_step(self.model, calls, tokens=tokens[:, 0], logits=logits, cache=self.cache)
        return logits, step

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with these rows, in this order."""
        self.cache.select(rows)


class Context:
    """The texts of R rows, of up to max_length columns. `read` their next tokens, `keep` the rows that go on.

    step  what reads them: the model itself, or, as soon as it is compiled, the compiled step, which has a cache of its own
    """

    def __init__(self, model: LanguageModel, n_rows: int, max_length: int):
        self.step: PlainStep | CompiledStep = PlainStep(model, n_rows, max_length)
        self.columns_left = max_length
        self.begun, self.may_compile = False, True

    def read(self, tokens: np.ndarray, attention_mask: np.ndarray | None = None) -> np.ndarray:
        """tokens (R, T), which continue the texts -> logits (R, V) for the token after them, good until the next call.

        attention_mask (R, T), for the first call: False = padding on the left. ValueError for logits that are not finite.
        """
        self.columns_left -= tokens.shape[1]
        if isinstance(self.step, CompiledStep):
            logits = self.step(tokens.squeeze(1))
            check_logits(logits)
            return logits
        enough = len(tokens) >= ENOUGH_ROWS and self.columns_left >= ENOUGH_STEPS
        goes_on, self.begun = self.begun and tokens.shape[1] == 1, True
        if not (self.may_compile and enough and goes_on):
            return self.step(tokens, attention_mask)
        logits, step = self.step.compiled(tokens, attention_mask)
        self.step, self.may_compile = step or self.step, False
        return logits

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with these rows, in this order: the rest need not wait for, or pay for, those that ended.

        Once a step is compiled, none may come twice.
        """
        self.step.keep(rows)

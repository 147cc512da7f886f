"""What a model has read so far, for each row of a batch that is still running, and the logits for what comes next.

The prompt is read in one pass (prefill), then each step reads one token a row. Where it pays, the first of these is watched and
compiled (`tinyllm/compile/`); before that, and for models that cannot be compiled, the model itself is called, with its
key/value cache.
"""

import numpy as np

from tinyllm.compile import CompiledStep, NotYet, compile_step, record
from tinyllm.decoding.logits import check_logits, next_logits
from tinyllm.models.contract import LanguageModel


class PlainStep:
    """The model itself, with what it has read of R rows in its cache."""

    def __init__(self, model: LanguageModel, n_rows: int, max_length: int):
        self.model, self.cache = model, model.new_cache(n_rows, max_length)

    def __call__(self, tokens: np.ndarray, attention_mask: np.ndarray | None = None) -> np.ndarray:
        """Reads tokens (R, T), of which `attention_mask` (R, T) leaves some out; logits (R, V)."""
        return next_logits(self.model, tokens, cache=self.cache, attention_mask=attention_mask)

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

        attention_mask (R, T): False = padding. ValueError for logits that are not finite.
        """
        self.columns_left -= tokens.shape[1]
        goes_on, self.begun = self.begun, True
        if isinstance(self.step, CompiledStep):
            logits = self.step(tokens.squeeze(1))
            check_logits(logits)
            return logits
        one_each = tokens.shape[1] == 1 and attention_mask is None and goes_on
        if not (one_each and self.may_compile):
            return self.step(tokens, attention_mask)
        return self._read_and_compile(self.step, tokens)

    def _read_and_compile(self, plain: PlainStep, tokens: np.ndarray) -> np.ndarray:
        """An ordinary step, from which the compiled one is made that goes on, if there can be one."""
        logits, calls = record(lambda: plain(tokens))
        model, cache = plain.model, plain.cache
        try:
            step = compile_step(calls, model=model, tokens=tokens[:, 0], logits=logits, cache=cache, n_steps=self.columns_left)
            self.step, self.may_compile = step or plain, False
        except NotYet:
            pass
        return logits

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with these rows, in this order: the rest need not wait for, or pay for, those that ended.

        Once a step is compiled, none may come twice.
        """
        self.step.keep(rows)

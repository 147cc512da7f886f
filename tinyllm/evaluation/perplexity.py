"""How well a model predicts held-out text, in three units of the same measurement, with its standard error.

    nats            N = 1/n Σ -log p(token)        the loss
    perplexity      exp(N)                         as unsure as among this many equally likely tokens
    bits per byte   Σ -log p / (ln 2 · bytes)      comparable between tokenizers, since the text's bytes are the same

Jelinek et al. 1977 for perplexity; the standard error treats windows as the independent samples (tokens of one text are
not independent): it is that of a ratio of two sums, Cochran 1977, "Sampling Techniques", eq. 2.46, without n/N.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tinyllm import kernels
from tinyllm.data import Batch
from tinyllm.models.contract import LanguageModel
from tinyllm.nn import evaluating
from tinyllm.tokenizers import Tokenizer


@dataclass(frozen=True)
class Perplexity:
    """A measurement over `n_windows` windows with `n_tokens` counted tokens; n_bytes is None when not asked for."""

    nats: float  # mean of -log p over the tokens
    standard_error: float  # of nats; nan for one window alone
    n_tokens: int
    n_windows: int
    nats_in_bytes: float | None = None  # sum of -log p over the tokens that stand for bytes
    n_bytes: int | None = None

    @property
    def perplexity(self) -> float:
        """exp(nats): inf where that is too large for a float."""
        return exp_or_inf(self.nats)

    @property
    def perplexity_standard_error(self) -> float:
        """Standard error of the perplexity to first order: d exp(N) = exp(N) dN."""
        return self.perplexity * self.standard_error

    @property
    def bits_per_byte(self) -> float | None:
        """Bits needed for a byte of text with this model as a compressor; tokens of no bytes (end of text) not counted."""
        if not self.n_bytes or self.nats_in_bytes is None:
            return None
        return self.nats_in_bytes / math.log(2) / self.n_bytes


def measure_perplexity(
    model: LanguageModel, batches: Iterable[Batch], *, bytes_per_token: np.ndarray | None = None
) -> Perplexity:
    """Run `model` over `batches` (data.EvaluationWindows, say) and measure; the model's training mode is kept.

    model: tokens (B, T) -> logits Tensor (B, T, V). bytes_per_token: (V,) ints, see `token_lengths`; gives bits per byte.
    Raises ValueError if there is nothing to count or a target is outside the vocabulary.
    """
    with evaluating(model):
        windows = [_window_sums(model, batch, bytes_per_token) for batch in batches]
    sums = np.concatenate(windows) if windows else np.zeros((0, 4))  # columns: nats, tokens, nats in bytes, bytes
    sums = sums[sums[:, 1] > 0]
    if not len(sums):
        raise ValueError("batches hold no counted token, so there is nothing to measure; give at least one window")
    nats, n_tokens, nats_in_bytes, n_bytes = sums.sum(axis=0)
    error = ratio_standard_error(sums[:, 0], sums[:, 1])
    with_bytes = (None, None) if bytes_per_token is None else (float(nats_in_bytes), int(n_bytes))
    return Perplexity(float(nats / n_tokens), error, int(n_tokens), len(sums), *with_bytes)


def _window_sums(model: LanguageModel, batch: Batch, bytes_per_token: np.ndarray | None) -> np.ndarray:
    """(B, 4) float64: for each window its nats, tokens, nats over tokens that have bytes, and bytes."""
    logits = model(batch.tokens).data  # (B, T, V)
    n_vocab = logits.shape[-1]
    counted = np.ones(batch.targets.shape, bool) if batch.loss_mask is None else batch.loss_mask
    targets = np.where(counted, batch.targets, 0)
    if targets.min() < 0 or targets.max() >= n_vocab:
        raise ValueError(f"targets must be ids from 0 to {n_vocab - 1}, got {targets.min()} to {targets.max()}")
    nll, _ = kernels.cross_entropy_forward(logits.reshape(-1, n_vocab), targets.reshape(-1))
    nats = np.where(counted, nll.reshape(targets.shape), 0.0).astype(np.float64)  # (B, T)
    lengths = np.zeros(targets.shape) if bytes_per_token is None else np.where(counted, bytes_per_token[targets], 0)
    return np.stack([nats.sum(1), counted.sum(1), np.where(lengths > 0, nats, 0.0).sum(1), lengths.sum(1)], axis=1)


def ratio_standard_error(sums: np.ndarray, counts: np.ndarray) -> float:
    """Standard error of Σ sums / Σ counts over W independent windows, both (W,); nan if W is 1.

    sqrt( W/(W-1) Σ (sums - ratio · counts)² ) / Σ counts; for equal counts it is std(means)/sqrt(W).
    """
    n_windows = len(sums)
    if n_windows < 2:
        return math.nan
    residuals = sums - sums.sum() / counts.sum() * counts
    return math.sqrt(n_windows / (n_windows - 1) * float(residuals @ residuals)) / float(counts.sum())


def token_lengths(tokenizer: Tokenizer) -> np.ndarray:
    """(V,) int64: how many bytes of text each id stands for; 0 for special tokens, which are not part of the text."""
    special = set(tokenizer.special_tokens.values())
    lengths = [0 if i in special else len(tokenizer.decode_bytes([i])) for i in range(tokenizer.vocab_size)]
    return np.array(lengths, dtype=np.int64)


def exp_or_inf(nats: float) -> float:
    """exp(nats), inf where a float cannot hold it (a diverged run must still get its report)."""
    return math.exp(nats) if nats < 709 else math.inf

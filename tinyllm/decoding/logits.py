"""From a model to its next token: logits, then filters, then a choice.

Each filter is a pure function (B, V) -> (B, V) that moves or removes (sets to -inf) logits; what remains is
p(token) = softmax(logits). `filter_logits` applies them in transformers' order (5.23, `_get_logits_processor`):
repetition penalty, n-gram blocking, temperature, top-k, top-p, min-p. Where tokens tie, top-k keeps all that tie with
the k-th, top-p the lowest ids (transformers: in whatever order its sort leaves them).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyllm import kernels
from tinyllm.decoding.config import GenerationConfig
from tinyllm.decoding.top_p import keep_top_p
from tinyllm.models.contract import LanguageModel
from tinyllm.nn import evaluating


def check_logits(logits: np.ndarray) -> None:
    """Raise ValueError if a row of logits (B, V) has a NaN or +inf, or nothing above -inf."""
    best = logits.max(axis=-1)  # NaN wins any maximum, so one number a row tells all
    if not np.isfinite(best).all():
        row = int(np.flatnonzero(~np.isfinite(best))[0])
        found = {True: "a NaN", False: "+inf" if best[row] > 0 else "only -inf"}[bool(np.isnan(best[row]))]
        raise ValueError(
            f"the model's logits for row {row} hold {found}; expected finite numbers. "
            f"The weights are probably broken (training diverged?): try an earlier checkpoint"
        )


def next_logits(model: LanguageModel, tokens: np.ndarray, *, cache: Any, attention_mask: np.ndarray | None) -> np.ndarray:
    """Logits (B, V) for the token after tokens (B, T), which continue `cache`; checked to be finite.

    Runs without gradient and with dropout off, and leaves the model in the mode (train or eval) it was in.
    """
    with evaluating(model):
        hidden = model.hidden(tokens, cache=cache, attention_mask=attention_mask)
        hidden = hidden if hidden.shape[1] == 1 else hidden[:, -1:]  # only the last position's logits: V is large
        logits = model.logits(hidden).data[:, 0]
    check_logits(logits)
    return logits


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities (B, V) of logits (B, V)."""
    return kernels.log_softmax_forward(logits)


def penalize_repetition(logits: np.ndarray, histories: Sequence[Sequence[int]], penalty: float) -> np.ndarray:
    """Make tokens that are already in the row's text less likely (Keskar et al. 2019, CTRL, section 4.1).

    logits (B, V); histories: B lists of ids, prompt included, no padding; penalty > 1 discourages.
    Differs from the paper, like transformers: the paper divides every logit, which would favour a token whose logit
    is negative, so negative logits are multiplied. How often a token appeared does not matter.
    """
    out = logits.copy()
    for row, history in zip(out, histories, strict=True):
        ids = np.asarray(history, dtype=np.int64)
        seen = row[ids]
        row[ids] = np.where(seen < 0, seen * penalty, seen / penalty)  # a repeated id writes the same value again
    return out


def block_repeated_ngrams(logits: np.ndarray, histories: Sequence[Sequence[int]], size: int) -> np.ndarray:
    """Remove every token that would complete a run of `size` tokens already in the text (Paulus et al. 2017, 2.5).

    logits (B, V); histories: B lists of ids, prompt included, no padding. size 1 forbids any token seen before.
    """
    out = logits.copy()
    for row, history in zip(out, histories, strict=True):
        ids = np.asarray(history, dtype=np.int64)
        if len(ids) < size:
            continue
        runs = np.lib.stride_tricks.sliding_window_view(ids, size)
        same_start = (runs[:, :-1] == ids[len(ids) - size + 1 :]).all(axis=1)
        row[runs[same_start, -1]] = -np.inf
    return out


def scale_by_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """logits / temperature: below 1 sharpens, above 1 flattens (Ackley, Hinton & Sejnowski 1985). temperature > 0."""
    return logits / temperature  # a Python float, so the dtype stays


def keep_top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """Remove all but the k highest logits of each row (Fan et al. 2018, section 5.4); ties with the k-th all stay."""
    n_removed = max(logits.shape[-1] - k, 0)
    threshold = np.partition(logits, n_removed, axis=-1)[..., n_removed, None]
    return np.where(logits >= threshold, logits, -np.inf).astype(logits.dtype, copy=False)


def keep_min_p(logits: np.ndarray, min_p: float) -> np.ndarray:
    """Remove tokens less likely than min_p times the likeliest (Nguyen et al. 2024, "Turning Up the Heat", section 3).

    p_i >= min_p · max p is the same as logit_i >= max logit + log(min_p), so no softmax is needed. 0 < min_p <= 1.
    """
    threshold = logits.max(axis=-1, keepdims=True) + float(np.log(min_p))
    return np.where(logits >= threshold, logits, -np.inf).astype(logits.dtype, copy=False)


def filter_logits(logits: np.ndarray, histories: Sequence[Sequence[int]], config: GenerationConfig) -> np.ndarray:
    """All filters that `config` asks for, in the order of the module's docstring: (B, V) -> (B, V).

    At temperature 0 only the repetition penalty and n-gram blocking apply: the others never change the likeliest
    token. Raises ValueError if n-gram blocking leaves a row without any token.
    """
    if config.repetition_penalty != 1.0:
        logits = penalize_repetition(logits, histories, config.repetition_penalty)
    if config.no_repeat_ngram_size > 0:
        logits = block_repeated_ngrams(logits, histories, config.no_repeat_ngram_size)
        if np.isneginf(logits.max(axis=-1)).any():
            raise ValueError(
                f"no_repeat_ngram_size {config.no_repeat_ngram_size} leaves no token that could come next; "
                f"raise it, or ask for fewer than max_new_tokens {config.max_new_tokens}"
            )
    if config.temperature == 0:
        return logits
    if config.temperature != 1.0:
        logits = scale_by_temperature(logits, config.temperature)
    if config.top_k is not None:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p is not None and config.top_p < 1:
        logits = keep_top_p(logits, config.top_p)
    if config.min_p is not None:
        logits = keep_min_p(logits, config.min_p)
    return logits


def greedy_tokens(logits: np.ndarray) -> np.ndarray:
    """The likeliest token of each row, the lowest id where several tie: (B, V) -> (B,)."""
    return np.argmax(logits, axis=-1)


def sample_tokens(logits: np.ndarray, generators: Sequence[np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
    """Draw one token a row from softmax(logits): (B, V) -> tokens (B,), their log-probabilities (B,).

    Row b uses one uniform number of generators[b] and nothing else, so a row's draw does not depend on its neighbours, and a
    removed token (-inf) is never drawn. The loop: `kernels/sampling.py`.
    """
    return kernels.sample_rows(logits, np.array([generator.random() for generator in generators]))

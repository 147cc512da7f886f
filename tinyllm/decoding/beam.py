"""Beam search: keep the n likeliest sequences at each step instead of one.

Greedy decoding can step past the likeliest sequence, because its first token is not the likeliest first token. A beam of
n widens the view: extend each of n sequences by every token, keep the n best of them all. A finished one is scored by
    score = Σ log p(token) / length ** length_penalty              (length counts new tokens, the stop token included)
so that a penalty above 0 favours longer ones. Sources: Lowerre 1976 (Harpy); Wu et al. 2016, section 7 and eq. 14, whose
penalty ((5 + length) / 6) ** α differs. The rules here are those of transformers 5.23, to the same sequences and scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.decoding.config import GenerationConfig
from tinyllm.decoding.logits import block_repeated_ngrams, log_softmax, next_logits
from tinyllm.decoding.prompts import check_request
from tinyllm.models.contract import LanguageModel


@dataclass(frozen=True)
class Hypothesis:
    """One sequence that beam search found."""

    tokens: list[int]  # new tokens; the stop token, if it came to one, is the last
    log_probs: np.ndarray  # one a token, in nats
    score: float  # Σ log_probs / len(tokens) ** length_penalty
    finish_reason: str  # "stop" or "length"


@dataclass(frozen=True)
class _Beam:
    """A sequence still being written; `parent` is the row of the batch that it continues."""

    tokens: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    total: float = 0.0
    parent: int = 0


def _best_continuations(beams: Sequence[_Beam], log_probs: np.ndarray, n: int) -> list[_Beam]:
    """The n likeliest of all one-token continuations, best first; beams: R, log_probs: (R, V).

    Ties go to the better beam, then to the lower id. Tokens at -inf are no continuation.
    """
    totals = (log_probs + np.array([beam.total for beam in beams])[:, None]).ravel()  # (R·V,)
    n = min(n, len(totals))
    threshold = np.partition(totals, len(totals) - n)[len(totals) - n]
    candidates = np.flatnonzero((totals >= threshold) & (totals > -np.inf))
    candidates = candidates[np.argsort(-totals[candidates], kind="stable")][:n]
    return [
        _Beam((*beams[row].tokens, token), (*beams[row].log_probs, float(log_probs[row, token])), total, row)
        for row, token, total in zip(
            *(part.tolist() for part in np.divmod(candidates, log_probs.shape[1])), totals[candidates].tolist(), strict=True
        )
    ]


def _why_ended(beam: _Beam, settings: GenerationConfig) -> str | None:
    if beam.tokens[-1] in settings.stop_tokens:
        return "stop"
    return "length" if len(beam.tokens) == settings.max_new_tokens else None


def _score(beam: _Beam, length_penalty: float, reason: str) -> Hypothesis:
    score = beam.total / len(beam.tokens) ** length_penalty
    return Hypothesis(list(beam.tokens), np.array(beam.log_probs), score, reason)


def _no_better_in_sight(best: _Beam, worst: Hypothesis, length_penalty: float) -> bool:
    """Whether the best running beam, were it to end now, would score no higher than the worst finished one.

    A heuristic, since with a length_penalty above 0 a longer sequence may yet rise above it.
    """
    return best.total / len(best.tokens) ** length_penalty <= worst.score


def _as_stop_tokens(eos_id: int | Sequence[int] | None) -> tuple[int, ...]:
    return () if eos_id is None else tuple(np.atleast_1d(np.asarray(eos_id)).tolist())


def beam_search(
    model: LanguageModel, prompt: Sequence[int] | np.ndarray, *, n_beams: int, max_new_tokens: int, length_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0, eos_id: int | Sequence[int] | None = None, early_stopping: bool = False,
) -> list[Hypothesis]:  # fmt: skip
    """The best continuations of one prompt, at most n_beams of them, best first.

    Each step takes the 2 · n_beams best continuations ((1 + number of stop tokens) · n_beams if that is more). Among
    the first n_beams of them those that end in a stop token are finished; the best n_beams that do not end run on.
    The search stops with n_beams finished ones if `early_stopping`, else when no better is in sight. With n_beams=1
    it stops at its first finished sequence: greedy decoding. Raises ValueError for bad settings and prompts, and if
    n-gram blocking leaves nothing to continue with. eos_id: one stop token, several, or None.
    """
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        n_beams=n_beams,
        length_penalty=length_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        stop_tokens=_as_stop_tokens(eos_id),
    )
    ids = check_request(model, [prompt], settings)[0]
    n_candidates = max(2, 1 + len(settings.stop_tokens)) * n_beams
    cache = model.new_cache(1, len(ids) + max_new_tokens)
    unread = np.array([ids])  # (R, T), tokens that the model has not seen yet
    running, finished = [_Beam()], []
    for _ in range(max_new_tokens):
        log_probs = log_softmax(next_logits(model, unread, cache=cache, attention_mask=None).astype(np.float64))  # (R, V)
        if no_repeat_ngram_size > 0:
            texts = [[*ids, *beam.tokens] for beam in running]
            log_probs = block_repeated_ngrams(log_probs, texts, no_repeat_ngram_size)
        candidates = _best_continuations(running, log_probs, n_candidates)
        ended = [(beam, _why_ended(beam, settings)) for beam in candidates]
        running = [beam for beam, reason in ended if reason is None][:n_beams]
        finished += [_score(beam, length_penalty, reason) for beam, reason in ended[:n_beams] if reason is not None]
        finished = sorted(finished, key=lambda hypothesis: -hypothesis.score)[:n_beams]
        if not running or (
            len(finished) == n_beams and (early_stopping or _no_better_in_sight(running[0], finished[-1], length_penalty))
        ):
            break
        cache.select(np.array([beam.parent for beam in running]))
        unread = np.array([beam.tokens[-1:] for beam in running])
    if not finished:
        raise ValueError(f"no_repeat_ngram_size {no_repeat_ngram_size} leaves no token that could come next; raise it")
    return finished

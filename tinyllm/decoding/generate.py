"""Generating tokens, one after the other: p(text) = Π p(token t | tokens before t), drawn from left to right.

The prompt is read in one pass (prefill), once for all its answers, which fills the key/value cache; from then on each step feeds
one token a row (`context.py`). A row ends at a stop token or after max_new_tokens, and then leaves the batch. The model may be
any that has the interface of `models/gpt.py`: config.block_size and .vocab_size, hidden, logits, new_cache; and embed, if it is
to be fast.
Randomness: one number is drawn from `rng` a row, and it seeds that row's own generator; so row b's text depends on the
rng's state and on b, not on the other prompts, and restoring the state of the rng repeats it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm import ops
from tinyllm.decoding.beam import beam_search
from tinyllm.decoding.config import GenerationConfig, make_config
from tinyllm.decoding.context import Context
from tinyllm.decoding.logits import filter_logits, greedy_tokens, sample_tokens
from tinyllm.decoding.prompts import check_request, left_pad
from tinyllm.models.contract import LanguageModel

ShouldStop = Callable[[int, int], bool]  # (row, its new token) -> whether the row ends here


@dataclass(frozen=True)
class Step:
    """One new token for each of the R rows that were still running."""

    rows: np.ndarray  # (R,) which prompts
    tokens: np.ndarray  # (R,) their new tokens
    log_probs: np.ndarray  # (R,) log-probabilities of these under the model itself: temperature 1, before any filter
    finish_reasons: tuple[str | None, ...]  # R times "stop", "length", or None: goes on


@dataclass(frozen=True)
class GenerationResult:
    """What came after each of the B prompts; lists of B, no padding."""

    tokens: list[list[int]]  # new tokens only; a stop token that ended the row is the last
    finish_reasons: list[str]  # "stop" (a stop token or should_stop) or "length" (max_new_tokens)
    log_probs: list[np.ndarray]  # one a token, in nats, under the model itself: temperature 1, before any filter


def row_generators(rng: np.random.Generator, n_rows: int) -> list[np.random.Generator]:
    """An independent generator a row, seeded by one draw each from `rng`; the b-th is the same for any n_rows > b.

    Not `rng.spawn`, whose counter is not part of the state that a checkpoint saves.
    """
    return [np.random.default_rng(seed) for seed in rng.integers(0, 2**63, size=n_rows)]


def generate_steps(
    model: LanguageModel, prompts: Sequence[Sequence[int]] | np.ndarray, *, config: GenerationConfig | None = None,
    rng: np.random.Generator | None = None, should_stop: ShouldStop | None = None, **settings: Any,
) -> Iterator[Step]:  # fmt: skip
    """Generate step by step: an iterator of `Step`, up to max_new_tokens of them.

    prompts      B lists of token ids, of any lengths, or an array (B, T)
    config       settings; single ones may also be passed by name (max_new_tokens=, temperature=, top_k=, ...)
    rng          needed unless temperature is 0
    should_stop  called with (row, token) for every new token; True ends that row with reason "stop"

    Raises ValueError, at once and not at the first step, for a bad setting or prompt, or if the longest prompt and
    max_new_tokens do not fit model.config.block_size; while running, for logits that are not finite.
    """
    config = make_config(config, settings)
    if config.stop_strings:
        raise ValueError("stop_strings need text, and these are token ids; use generate_text or stream_text")
    if config.n_beams > 1:
        raise ValueError(f"n_beams is {config.n_beams}: beam search has no result before its end; use generate")
    if config.samples and not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"rng is {rng!r}, but temperature {config.temperature} draws at random; pass "
            f"rng=np.random.default_rng(seed), or temperature=0 for the likeliest tokens"
        )
    histories = check_request(model, prompts, config)
    generators = row_generators(rng, len(histories)) if config.samples and rng is not None else None
    return _steps(model, histories, config, generators, should_stop)


def generate(
    model: LanguageModel, prompts: Sequence[Sequence[int]] | np.ndarray, *, config: GenerationConfig | None = None,
    rng: np.random.Generator | None = None, should_stop: ShouldStop | None = None, **settings: Any,
) -> GenerationResult:  # fmt: skip
    """Generate to the end: the new tokens of each prompt. Arguments and errors as in `generate_steps`.

    With n_beams above 1 each prompt's best sequence by beam search instead (`should_stop` is then refused).
    """
    config = make_config(config, settings)
    if config.n_beams > 1:
        return _generate_by_beams(model, prompts, config, should_stop)
    steps = generate_steps(model, prompts, config=config, rng=rng, should_stop=should_stop)
    tokens: list[list[int]] = [[] for _ in prompts]
    log_probs: list[list[float]] = [[] for _ in prompts]
    reasons = ["length"] * len(prompts)
    for step in steps:
        for row, token, log_prob, reason in zip(
            step.rows, step.tokens.tolist(), step.log_probs, step.finish_reasons, strict=True
        ):
            tokens[row].append(token)
            log_probs[row].append(log_prob)
            reasons[row] = reason or reasons[row]
    return GenerationResult(tokens, reasons, [np.array(row) for row in log_probs])


def _steps(
    model: LanguageModel, histories: list[list[int]], config: GenerationConfig, generators: list[np.random.Generator] | None,
    should_stop: ShouldStop | None,
) -> Iterator[Step]:  # fmt: skip
    """The loop. `histories` (prompt and new tokens of each running row) grow and shrink with the batch."""
    rows, context, logits = np.arange(len(histories)), *_read_prompts(model, histories, config.max_new_tokens)
    for n_new in range(1, config.max_new_tokens + 1):
        filtered = filter_logits(logits, histories, config)
        chosen, log_probs = sample_tokens(filtered, generators) if generators else (greedy_tokens(filtered), None)  # (R,)
        if log_probs is None or filtered is not logits:
            log_probs = ops.token_log_probs(logits, chosen).data
        reasons = tuple(
            "stop"
            if token in config.stop_tokens or (should_stop is not None and should_stop(row, token))
            else "length"
            if n_new == config.max_new_tokens
            else None
            for row, token in zip(rows.tolist(), chosen.tolist(), strict=True)
        )
        yield Step(rows, chosen, log_probs, reasons)

        going_on = np.flatnonzero([reason is None for reason in reasons])
        if len(going_on) == 0:
            return
        for history, token in zip(histories, chosen.tolist(), strict=True):
            history.append(token)
        if len(going_on) < len(rows):
            context.keep(going_on)
            rows, histories = rows[going_on], [histories[i] for i in going_on]
            generators = generators and [generators[i] for i in going_on]
        logits = context.read(chosen[going_on, None])  # (R, V)


def _read_prompts(model: LanguageModel, prompts: list[list[int]], max_new_tokens: int) -> tuple[Context, np.ndarray]:
    """The context of all prompts, and logits (R, V) for what comes next. A prompt that comes several times is read once."""
    distinct = list(dict.fromkeys(map(tuple, prompts)))
    tokens, attention_mask = left_pad(distinct)
    context = Context(model, len(distinct), tokens.shape[1] + max_new_tokens)
    logits = context.read(tokens, attention_mask)
    if len(distinct) < len(prompts):
        places = {prompt: place for place, prompt in enumerate(distinct)}
        rows = np.array([places[tuple(prompt)] for prompt in prompts])
        context.keep(rows)
        logits = logits[rows]
    return context, logits


def _generate_by_beams(
    model: LanguageModel, prompts: Any, config: GenerationConfig, should_stop: ShouldStop | None
) -> GenerationResult:
    if config.stop_strings or should_stop is not None:
        raise ValueError(
            f"n_beams is {config.n_beams}: beam search ends sequences at stop_tokens only; "
            f"leave out stop_strings and should_stop, or set n_beams=1"
        )
    best = [
        beam_search(
            model,
            prompt,
            n_beams=config.n_beams,
            length_penalty=config.length_penalty,
            no_repeat_ngram_size=config.no_repeat_ngram_size,
            eos_id=config.stop_tokens,
            max_new_tokens=config.max_new_tokens,
            early_stopping=config.early_stopping,
        )[0]
        for prompt in check_request(model, prompts, config)
    ]
    return GenerationResult([one.tokens for one in best], [one.finish_reason for one in best], [one.log_probs for one in best])

"""A rollout: the policy answers a batch of prompts, and each answer gets a score.

Answers are drawn from the policy itself, π(y | x) at the config's temperature, without top-k or top-p: the policy gradient is
an expectation over π, and an answer from a filtered π is a sample of something else. All prompts are answered together, padded
on the left, with one key/value cache (`decoding/generate.py`); an answer ends with its stop token or after max_new_tokens.
The fields of the config and what a reward function returns are checked here, at the door.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm.decoding import GenerationConfig, generate
from tinyllm.models.contract import LanguageModel
from tinyllm.nn import evaluating
from tinyllm.rlhf.sequences import Sequences, pad_sequences
from tinyllm.storage.fields import check_choice, check_number, check_whole

NORMALISERS = ("sequence", "token", "constant")


@dataclass(frozen=True)
class RolloutConfig:
    """How answers are sampled and cut into minibatches. ValueError names the field that does not make sense."""

    n_prompts: int = 16  # prompts per rollout
    group_size: int = 4  # answers per prompt
    max_new_tokens: int = 48  # longest answer, stop token included
    temperature: float = 1.0  # of sampling, and of every log-probability computed afterwards
    minibatch_size: int = 64  # answers per micro-batch of an optimizer step
    epochs: int = 1  # times each rollout is learned from
    missing_stop_score: float | None = None  # score of an answer that never stopped, whatever the reward says; 2019: -1
    normaliser: str = "token"  # the loss is a mean over: sequence, token, or constant; see `token_weights`

    def __post_init__(self) -> None:
        check_whole(self, "n_prompts", "group_size", "max_new_tokens", "minibatch_size", "epochs", low=1)
        check_number(self, "temperature", low=1e-5)  # a policy that never varies learns nothing
        check_number(self, "missing_stop_score", optional=True)
        check_choice(self, "normaliser", NORMALISERS)


@dataclass(frozen=True)
class Sample:
    """One answer, as the reward function sees it."""

    prompt_index: int  # which of the prompts
    prompt: list[int]
    response: list[int]  # stop token included, if there is one
    finished: bool  # whether it ended with a stop token


Reward = Callable[[list[Sample]], Any]  # -> (B,) numbers, higher is better


@dataclass(frozen=True)
class Rollout:
    """What one round of sampling gave, B = n_prompts x group_size answers; those to one prompt stand side by side."""

    samples: list[Sample]
    sequences: Sequences
    scores: np.ndarray  # (B,)
    log_probs: np.ndarray  # (B, R) under the policy that sampled
    ref_log_probs: np.ndarray | None  # (B, R) under the reference


def sample_rollout(
    policy: LanguageModel, prompts: Sequence[list[int]], indices: np.ndarray, *, config: RolloutConfig, stop_id: int,
    rng: np.random.Generator,
) -> tuple[list[Sample], Sequences]:  # fmt: skip
    """An answer to each of prompts[indices], drawn from the policy itself: no top-k, no top-p."""
    asked = [prompts[i] for i in indices]
    settings = GenerationConfig(config.max_new_tokens, temperature=config.temperature, stop_tokens=(stop_id,))
    with evaluating(policy):  # once, not at every token
        result = generate(policy, asked, config=settings, rng=rng)
    answers = zip(indices.tolist(), asked, result.tokens, result.finish_reasons, strict=True)
    samples = [Sample(index, prompt, response, reason == "stop") for index, prompt, response, reason in answers]
    return samples, pad_sequences(asked, result.tokens)


def check_prompts(prompts: Sequence[list[int]], *, block_size: int, max_new_tokens: int) -> None:
    """ValueError for no prompts, an empty one, or one after which an answer of max_new_tokens does not fit the context."""
    if not len(prompts):
        raise ValueError("prompts is empty; expected at least one list of token ids")
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {index} has no token; expected at least one")
        if len(prompt) + max_new_tokens > block_size:
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens, which leaves no room for an answer of max_new_tokens {max_new_tokens} "
                f"in a context of {block_size}; shorten it, or lower max_new_tokens"
            )


def check_scores(scores: Any, samples: Sequence[Sample]) -> np.ndarray:
    """The rewards as (B,) float64. ValueError unless there is one finite number for each answer."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (len(samples),):
        raise ValueError(f"reward gave shape {scores.shape} for {len(samples)} answers; expected one number for each")
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(
            f"reward gave {scores[row]} for answer {row} (prompt {samples[row].prompt_index}, tokens "
            f"{samples[row].response[:8]}...); expected a finite number: look at the reward function or the reward model"
        )
    return scores

"""Best of n: sample n answers, keep the one the reward likes best. No training, and hard to beat at a small distance.

    KL(best of n ‖ policy) = ln n - (n - 1)/n          n = 4: 0.64 nats, 16: 1.84, 64: 3.17

The winner has n F(r)ⁿ⁻¹ times the policy's density, F the share of answers with a lower reward; the mean logarithm of that
factor is the formula (Stiennon et al. 2020, appendix G.3), for any reward; with ties an upper bound (Beirami et al. 2024).
The price is n answers for one. Fine-tuned on the winners, the policy gives such answers at once: rejection sampling
(Touvron et al. 2023, section 3.2.3); done again and again, expert iteration (Anthony et al. 2017).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.models.contract import LanguageModel
from tinyllm.rlhf.rollout import Reward, RolloutConfig, Sample, check_prompts, check_scores, sample_rollout


@dataclass(frozen=True)
class BestOfN:
    """For B prompts, the winners among n answers each."""

    winners: list[Sample]  # B
    scores: np.ndarray  # (B, n), all of them
    samples: list[Sample]  # B·n, those of a prompt side by side

    @property
    def best_scores(self) -> np.ndarray:
        """The winners' scores, (B,)."""
        return self.scores.max(axis=1)


def best_of_n(
    policy: LanguageModel,
    prompts: Sequence[list[int]],
    score: Reward,
    *,
    config: RolloutConfig,
    stop_id: int,
    rng: np.random.Generator,
) -> BestOfN:
    """n = config.group_size answers to each prompt, and the one with the highest score; of equals the first.

    score   list of Sample -> a number each, as in the trainers: a reward model's, or a checker's
    config  group_size, max_new_tokens, temperature and minibatch_size (prompts sampled at once); the rest is not used

    ValueError for no prompts, for one that leaves no room, for a score that is not finite.
    """
    check_prompts(prompts, block_size=policy.config.block_size, max_new_tokens=config.max_new_tokens)
    samples: list[Sample] = []
    for first in range(0, len(prompts), config.minibatch_size):
        indices = np.arange(first, min(first + config.minibatch_size, len(prompts))).repeat(config.group_size)
        samples += sample_rollout(policy, prompts, indices, config=config, stop_id=stop_id, rng=rng)[0]
    scores = check_scores(score(samples), samples).reshape(len(prompts), config.group_size)
    places = np.arange(len(prompts)) * config.group_size + scores.argmax(axis=1)
    return BestOfN([samples[place] for place in places], scores, samples)


def best_of_n_kl(n: int) -> float:
    """How far best-of-n is from the policy it samples from, in nats per answer; ValueError unless n is at least 1."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def expected_best(scores: np.ndarray, n: int) -> float:
    """Mean of the best of n, from N >= n scores of one prompt (N,): over all ways to choose n of them, without sampling again.

    Σ_i C(i, n-1) / C(N, n) · score_(i), scores ascending from i = 0: i answers are no better than the i-th (Chen et al. 2021,
    eq. 1, is this for scores 0 and 1). ValueError for n outside 1..N.
    """
    ascending = np.sort(np.asarray(scores, dtype=np.float64))
    if not 1 <= n <= len(ascending):
        raise ValueError(f"n must be from 1 to the {len(ascending)} scores there are, got {n}")
    ways = np.array([math.comb(i, n - 1) / math.comb(len(ascending), n) for i in range(len(ascending))])
    return float(ways @ ascending)


def winners_as_demonstrations(
    best: BestOfN, *, share: float = 1.0, only_finished: bool = True
) -> list[tuple[list[int], list[bool]]]:
    """The winners as (ids, loss mask) for fine-tuning (data/conversations/packing.py), True for the answer: rejection sampling.

    share          only this share of them, those with the highest scores, 0 < share <= 1
    only_finished  leave out answers that never stopped: they would teach not to stop

    ValueError if none is left.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    order = np.argsort(-best.best_scores, kind="stable")[: max(1, round(share * len(best.winners)))]
    kept = [best.winners[i] for i in order if best.winners[i].finished or not only_finished]
    if not kept:
        raise ValueError("best: no winner ends with the stop token, so there is nothing to learn from; raise max_new_tokens")
    return [([*s.prompt, *s.response], [False] * len(s.prompt) + [True] * len(s.response)) for s in kept]

"""PPO: the third step of InstructGPT. Improve the policy on its own answers, a little at a time.

    ratio_t = π(y_t) / π_old(y_t)
    policy loss = -E[ min(ratio A, clip(ratio, 1-ε, 1+ε) A) ]           (Schulman et al. 2017, eq. 7)
    value loss  = ½ E[ max((V - R)², (clip(V, V_old ± ε) - R)²) ]
    reward_t    = -β (log π_old - log π_ref), + score at the last token    (Ouyang et al. 2022, eq. 2)

The min takes the more pessimistic of two estimates, so that nothing is gained by moving a token's probability further than a
factor 1 ± ε in the direction its advantage points to; only that makes several steps on the same answers safe. The details are
those of the code behind Ziegler et al. 2019 and Stiennon et al. 2020, but rewards are not whitened unless asked; λ 0.95, γ 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.models.contract import Policy
from tinyllm.rlhf.actor_critic import ActorCritic
from tinyllm.rlhf.advantages import explained_variance, token_rewards, whiten
from tinyllm.rlhf.gae import gae
from tinyllm.rlhf.kl import ESTIMATORS, KLController, kl_estimate
from tinyllm.rlhf.policy_gradient import (
    Experience,
    PolicyGradient,
    answer_log_probs,
    clip_fraction,
    disable_dropout,
    policy_statistics,
    step_share,
    weighted_loss,
)
from tinyllm.rlhf.rollout import Reward, Rollout, RolloutConfig
from tinyllm.storage.fields import check_choice, check_number


def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: np.ndarray, advantages: np.ndarray, *, low: float = 0.2, high: float | None = None
) -> Tensor:
    """-min(ratio A, clip(ratio, 1 - low, 1 + high) A) per token, (B, R). `high` is `low` unless given."""
    ratio = ops.exp(log_probs - old_log_probs)
    clipped = ops.clip(ratio, low=1 - low, high=1 + (low if high is None else high))
    return -ops.minimum(ratio * advantages, clipped * advantages)


def clipped_value_loss(values: Tensor, old_values: np.ndarray, returns: np.ndarray, *, clip: float = 0.2) -> Tensor:
    """½ max((V - R)², (V_clipped - R)²) per token, (B, R): the value, too, moves at most `clip` per rollout."""
    clipped = old_values + ops.clip(values - old_values, low=-clip, high=clip)
    return 0.5 * ops.maximum((values - returns) ** 2, (clipped - returns) ** 2)


@dataclass(frozen=True)
class PPOConfig(RolloutConfig):
    """Settings of PPO besides those of sampling. Learning rate and steps are the TrainConfig's."""

    n_prompts: int = 64  # prompts per rollout
    group_size: int = 1  # answers per prompt
    minibatch_size: int = 32  # answers per micro-batch of an optimizer step
    epochs: int = 2  # times each rollout is learned from; Stiennon et al. 2020 took 4, which is slower and no better here
    clip: float = 0.2  # ε of the ratio; Schulman et al. 2017
    value_clip: float = 0.2  # ε of the value; Ziegler et al. 2019
    value_coefficient: float = 0.1  # weight of the value loss; Ziegler et al. 2019
    entropy_coefficient: float = 0.0  # bonus for staying undecided; language models need none
    gamma: float = 1.0  # discount per token: an answer is one decision
    lam: float = 0.95  # λ of the advantages; Ziegler et al. 2019
    kl_coefficient: float = 0.05  # β, or where it starts
    kl_target: float | None = None  # nats per answer to steer β to; 2019: 6. None = β is fixed
    kl_horizon: int = 10_000  # samples over which β adapts; Ziegler et al. 2019
    kl_estimator: str = "k1"  # k1, k2 or k3; see kl.py
    whiten_rewards: bool = False  # scale token rewards to variance 1, without moving their mean
    stop_kl: float | None = None  # nats per token between new and old policy at which a rollout's remaining minibatches are left

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "clip", "value_clip", "value_coefficient", "entropy_coefficient", "kl_coefficient", low=0)
        check_number(self, "gamma", "lam", low=0, high=1)
        check_number(self, "kl_target", low=1e-6, optional=True)
        check_number(self, "kl_horizon", low=1)
        check_number(self, "stop_kl", low=0, optional=True)
        check_choice(self, "kl_estimator", ESTIMATORS)
        self.controller().check_rollout(self.n_prompts * self.group_size)

    def controller(self) -> KLController:
        """What steers β."""
        return KLController(self.kl_coefficient, self.kl_target, self.kl_horizon)


class PPO(PolicyGradient[ActorCritic]):
    """PPO on an ActorCritic. Use: train(model, ppo, loss_fn=ppo.loss, measure=ppo.measure, config=...)."""

    def __init__(
        self, model: ActorCritic, prompts: Sequence[list[int]], reward: Reward, *, config: PPOConfig, stop_id: int,
        rng: np.random.Generator, reference: Policy | None = None,
    ):  # fmt: skip
        super().__init__(model.policy, prompts, reward, config=config, stop_id=stop_id, rng=rng, reference=reference)
        disable_dropout(model.critic)
        self.model = model
        self.controller = config.controller()
        self._moved = 0.0  # approx_kl of the latest minibatch

    def estimate(self, rollout: Rollout) -> dict[str, np.ndarray]:
        """Values, token rewards with the KL penalty, then GAE."""
        config, mask = self.config, rollout.sequences.response_mask
        values = self.model.frozen_values(rollout.sequences, batch_size=config.minibatch_size)
        reference = rollout.log_probs if rollout.ref_log_probs is None else rollout.ref_log_probs
        kl = kl_estimate(rollout.log_probs, reference, estimator=config.kl_estimator)
        rewards = token_rewards(rollout.scores, kl, mask, beta=self.controller.beta)
        self.note(kl_coefficient=self.controller.beta, objective=rewards.sum(axis=1).mean())
        if config.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        advantages, returns = gae(rewards, values, mask, gamma=config.gamma, lam=config.lam)
        self.note(explained_variance=explained_variance(values, returns, mask))
        self.controller.update(float(kl.sum(axis=1).mean()), len(mask))
        self._moved = 0.0
        return {"advantages": whiten(advantages, mask), "values": values, "returns": returns}

    def loss(self, model: ActorCritic, batch: Experience, *, n_counted: int) -> Tensor:
        """Policy loss + value_coefficient · value loss - entropy_coefficient · entropy."""
        config, arrays = self.config, batch.arrays
        logits, values = model.logits_and_values(batch.sequences, temperature=config.temperature)
        log_probs = answer_log_probs(logits, batch)
        policy = clipped_policy_loss(log_probs, arrays["old_log_probs"], arrays["advantages"], low=config.clip)
        value = clipped_value_loss(values, arrays["values"], arrays["returns"], clip=config.value_clip)
        policy_loss, value_loss = weighted_loss(policy, batch, n_counted), weighted_loss(value, batch, n_counted)
        statistics = policy_statistics(logits, log_probs, batch)
        statistics["policy_loss"] = step_share(policy_loss, batch, n_counted)
        statistics["value_loss"] = step_share(value_loss, batch, n_counted)
        statistics["clip_fraction"] = clip_fraction(log_probs, batch, low=config.clip, high=config.clip)
        self.measure.add(batch.n_counted, **statistics)
        self._moved = statistics["approx_kl"]
        total = policy_loss + config.value_coefficient * value_loss
        if config.entropy_coefficient:
            total = total - config.entropy_coefficient * weighted_loss(ops.entropy(logits), batch, n_counted)
        return total

    def enough(self) -> bool:
        """Whether the policy has moved further than stop_kl since it sampled."""
        return self.config.stop_kl is not None and self._moved > self.config.stop_kl

    def state(self) -> dict[str, Any]:
        """As in the base, and β."""
        return super().state() | {"beta": self.controller.beta, "moved": self._moved}

    def restore(self, state: Mapping[str, Any]) -> None:
        """As in the base, and β."""
        super().restore(state)
        self.controller.beta, self._moved = state["beta"], state["moved"]

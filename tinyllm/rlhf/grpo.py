"""GRPO: PPO without a value model. The other answers to the same prompt say what to expect.

    A = (r - mean of the group) / std of the group            one number for all tokens of an answer
    loss = -E[ min(ratio A, clip(ratio, 1-ε_low, 1+ε_high) A) ] + β KL(π ‖ ref)          (Shao et al. 2024, eq. 3)

Made for rewards that can be checked (is the sum right?). With one update per rollout the ratio is exactly 1 and every group's
advantages add up to 0, so the printed loss is about 0 although its gradient is not: watch the reward, not the loss.
Named choices, each a known variant: `scale` (Dr. GRPO: "none"), `normaliser` (GRPO's paper: "sequence"; DAPO: "token"; Dr. GRPO:
"constant"), clip_high above clip_low (DAPO's clip-higher, which leaves unlikely tokens room to grow), `ratio` (GSPO: "sequence").
"""

from dataclasses import dataclass

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.models.contract import Policy
from tinyllm.rlhf.advantages import SCALES, group_advantages
from tinyllm.rlhf.kl import kl_estimate
from tinyllm.rlhf.policy_gradient import (
    Experience,
    PolicyGradient,
    clip_fraction,
    policy_logits,
    policy_statistics,
    token_weights,
    weighted_loss,
)
from tinyllm.rlhf.ppo import clipped_policy_loss
from tinyllm.rlhf.rollout import Rollout, RolloutConfig
from tinyllm.storage.fields import check_choice, check_number, check_whole


@dataclass(frozen=True)
class GRPOConfig(RolloutConfig):
    """Settings of GRPO besides those of sampling."""

    group_size: int = 8  # G, answers per prompt; CS336
    scale: str = "group"  # group, batch or none; see advantages.group_advantages
    clip_low: float = 0.2  # ε below 1; Shao et al. 2024
    clip_high: float = 0.28  # ε above 1; Yu et al. 2025 (DAPO)
    ratio: str = "token"  # token, or sequence (GSPO)
    kl_coefficient: float = 0.0  # β of the k3 penalty in the loss; the paper: 0.04, later practice: 0
    mask_truncated: bool = False  # leave answers that never stopped out of the loss (DAPO's overlong filtering)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self, "group_size", low=2, hint=": an answer is compared with those beside it")
        check_number(self, "clip_low", "clip_high", "kl_coefficient", low=0)
        check_choice(self, "ratio", ("token", "sequence"))
        check_choice(self, "scale", SCALES)


def sequence_ratio_log_probs(log_probs: Tensor, old_log_probs: np.ndarray, mask: np.ndarray) -> Tensor:
    """Log-probs (B, R) whose ratio to the old ones is, at every token, the geometric mean of the answer's token ratios.

    GSPO (Zheng et al. 2025): an answer is rewarded as a whole, so it is weighed as a whole.
    """
    counted = mask.astype(log_probs.dtype)
    mean = ops.sum((log_probs - old_log_probs) * counted, axis=1, keepdims=True) / counted.sum(axis=1, keepdims=True)
    return old_log_probs + mean


class GRPO(PolicyGradient[Policy]):
    """Use: train(policy, grpo, loss_fn=grpo.loss, measure=grpo.measure, config=...)."""

    def estimate(self, rollout: Rollout) -> dict[str, np.ndarray]:
        """The same advantage for every token of an answer."""
        config, mask = self.config, rollout.sequences.response_mask
        advantages = group_advantages(rollout.scores, group_size=config.group_size, scale=config.scale)
        arrays = {"advantages": (advantages[:, None] * mask).astype(np.float32)}
        if config.mask_truncated:
            counted = mask & np.array([[sample.finished] for sample in rollout.samples])
            arrays["weights"] = token_weights(counted, config.normaliser, config.max_new_tokens)
        return arrays

    def loss(self, model: Policy, batch: Experience, *, n_counted: int) -> Tensor:
        """The clipped loss, and β KL(π ‖ ref) if β is not 0."""
        config, arrays = self.config, batch.arrays
        logits, log_probs = policy_logits(model, batch, temperature=config.temperature)
        compared = log_probs
        if config.ratio == "sequence":
            compared = sequence_ratio_log_probs(log_probs, arrays["old_log_probs"], batch.sequences.response_mask)
        bounds = {"low": config.clip_low, "high": config.clip_high}
        losses = clipped_policy_loss(compared, arrays["old_log_probs"], arrays["advantages"], **bounds)
        if config.kl_coefficient:
            losses = losses + config.kl_coefficient * kl_estimate(log_probs, arrays["ref_log_probs"], estimator="k3")
        statistics = policy_statistics(logits, log_probs, batch)
        self.measure.add(batch.n_counted, **statistics, clip_fraction=clip_fraction(compared, batch, **bounds))
        return weighted_loss(losses, batch, n_counted)

"""REINFORCE and RLOO: the policy gradient itself, without a ratio and without a clip.

    loss = -E[ A · Σ_t log π(y_t) ]

Its gradient is the policy gradient as long as the answers come from the present policy: one optimizer step per rollout. The two
differ in one line, the baseline: the mean of all scores of the batch (REINFORCE, Williams 1992), or the mean of the other answers
to the same prompt (RLOO, Ahmadian et al. 2024), which knows how hard the prompt is. A KL penalty goes into the score, as in
Ahmadian et al., section 3.3: r - β Σ_t (log π - log π_ref).
"""

from dataclasses import dataclass

import numpy as np

from tinyllm.autograd import Tensor
from tinyllm.models.contract import Policy
from tinyllm.rlhf.advantages import leave_one_out_advantages
from tinyllm.rlhf.policy_gradient import Experience, PolicyGradient, policy_logits, policy_statistics, weighted_loss
from tinyllm.rlhf.rollout import Rollout, RolloutConfig
from tinyllm.storage.fields import check_number


@dataclass(frozen=True)
class ReinforceConfig(RolloutConfig):
    """Settings of REINFORCE and RLOO besides those of sampling."""

    kl_coefficient: float = 0.0  # β: what a nat of distance from the reference costs, in units of the score
    normaliser: str = "constant"  # the equation has a sum over tokens, not a mean

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "kl_coefficient", low=0)
        if self.epochs > 1 or self.minibatch_size < self.n_prompts * self.group_size:
            raise ValueError(
                f"epochs is {self.epochs} and minibatch_size {self.minibatch_size}: without a ratio only one step on all "
                f"answers of a rollout is sound; set epochs=1 and minibatch_size={self.n_prompts * self.group_size}"
            )


class Reinforce(PolicyGradient[Policy]):
    """REINFORCE. Use: train(policy, reinforce, loss_fn=reinforce.loss, measure=reinforce.measure, config=...)."""

    def baseline(self, scores: np.ndarray) -> np.ndarray:
        """What each answer is compared with, taken off: scores (B,) -> advantages (B,)."""
        return scores - scores.mean()

    def estimate(self, rollout: Rollout) -> dict[str, np.ndarray]:
        """The same advantage for every token of an answer."""
        scores = rollout.scores
        if self.config.kl_coefficient:
            assert rollout.ref_log_probs is not None
            scores = scores - self.config.kl_coefficient * (rollout.log_probs - rollout.ref_log_probs).sum(axis=1)
        return {"advantages": (self.baseline(scores)[:, None] * rollout.sequences.response_mask).astype(np.float32)}

    def loss(self, model: Policy, batch: Experience, *, n_counted: int) -> Tensor:
        """-A log π."""
        logits, log_probs = policy_logits(model, batch, temperature=self.config.temperature)
        self.measure.add(batch.n_counted, **policy_statistics(logits, log_probs, batch))
        return weighted_loss(-(log_probs * batch.arrays["advantages"]), batch, n_counted)


class RLOO(Reinforce):
    """RLOO: REINFORCE with the other answers to the same prompt as its baseline."""

    def baseline(self, scores: np.ndarray) -> np.ndarray:
        """Each score against the mean of the others of its group."""
        return leave_one_out_advantages(scores, group_size=self.config.group_size)

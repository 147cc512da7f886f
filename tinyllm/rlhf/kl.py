"""How far a policy has gone from its reference, and what holds it back.

    KL(π ‖ ref) = E_{y ~ π} [ log π(y) - log ref(y) ]

The sum over all answers is out of reach, so it is estimated from the answers sampled anyway, token by token. With
d = log π - log ref (Schulman 2020, "Approximating KL divergence"):

    k1 = d                    unbiased, but single ones are negative as often as not
    k2 = d² / 2               never negative, biased
    k3 = e⁻ᵈ - 1 + d          never negative and unbiased: k1 plus something of mean 0

A mean of k1 that keeps *below* zero is no luck: then the answers do not come from the π that scores them (another temperature,
dropout, a filter).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm import ops
from tinyllm.storage.fields import check_number

ESTIMATORS = ("k1", "k2", "k3")


def kl_estimate(log_probs: Any, ref_log_probs: Any, *, estimator: str = "k1") -> Any:
    """Each token's share of the KL divergence, in nats, same shape as the inputs (arrays, or Tensors for a loss).

    ValueError for an estimator that is not k1, k2 or k3.
    """
    difference = log_probs - ref_log_probs
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return 0.5 * difference * difference
    if estimator == "k3":
        exp = np.exp if isinstance(difference, np.ndarray | np.generic) else ops.exp
        return exp(-difference) - 1 + difference
    raise ValueError(f"estimator is {estimator!r}; expected one of {', '.join(ESTIMATORS)}")


@dataclass
class KLController:
    """The coefficient β of the KL penalty. Fixed, or steered so that the KL stays near a target.

        e = clip(KL / target - 1, -0.2, 0.2)        β ← β (1 + e · n_samples / horizon)

    Ziegler et al. 2019, section 2.2, with their code's horizon in samples. A penalty is a price: too low and the policy runs
    away into whatever the reward model overrates, too high and it stays where it is. A rollout larger than the horizon would
    change it by more than a fifth at once, and one of five horizons turn it into a reward for running away: both are refused.
    """

    beta: float
    target: float | None = None  # nats per answer; None = β stays as it is
    horizon: int = 10_000  # samples

    def __post_init__(self) -> None:
        check_number(self, "beta", low=0)
        check_number(self, "target", above=0, optional=True)
        check_number(self, "horizon", low=1)

    def check_rollout(self, n_samples: int) -> None:
        """ValueError if β is steered and `n_samples` answers at a time are more than the horizon."""
        if self.target is not None and n_samples > self.horizon:
            expected = f"at least the {n_samples} answers of a rollout expected (10,000 is usual)"
            raise ValueError(f"the horizon of the KL controller is {self.horizon}, {expected}")

    def update(self, kl: float, n_samples: int) -> None:
        """After a rollout of `n_samples` answers whose mean KL (nats per answer) was `kl`."""
        self.check_rollout(n_samples)
        if self.target is not None:
            error = min(max(kl / self.target - 1, -0.2), 0.2)
            self.beta *= 1 + error * n_samples / self.horizon

"""GAE, generalized advantage estimation: how much better was each token than expected? (Schulman et al. 2016, eq. 16)

    δ_t = r_t + γ V_{t+1} - V_t          A_t = δ_t + γλ A_{t+1}          returns = A + V

V_t is the value of what stands *before* token t; after the last token it is 0. λ = 1 trusts only rewards (much noise), λ = 0 only
the value model (much bias). PPO is what it is for; what other methods expect is in `advantages.py`.
"""

import numpy as np


def gae(
    rewards: np.ndarray, values: np.ndarray, mask: np.ndarray, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """rewards, values, mask (B, R; False = no token of the answer) -> (advantages, returns), both (B, R), 0 outside the mask."""
    values, rewards = np.where(mask, values, 0), np.where(mask, rewards, 0)  # not a product: NaN · 0 is NaN
    advantages = np.zeros_like(rewards)
    later_value = later_advantage = np.zeros(len(rewards), rewards.dtype)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * later_value - values[:, t]
        later_advantage = np.where(mask[:, t], delta + gamma * lam * later_advantage, 0)
        advantages[:, t] = later_advantage
        later_value = values[:, t]
    return advantages, advantages + values

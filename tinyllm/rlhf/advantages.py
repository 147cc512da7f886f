"""Advantages: was this answer, was this token, better than expected? All of policy gradients is in what "expected" means.

    ∇ E[reward] = E[ Σ_t ∇ log π(y_t) · A_t ]        (Williams 1992, REINFORCE)

    REINFORCE   A = r - mean of the batch           one number an answer
    RLOO        A = r - mean of the OTHER answers to the same prompt
    GRPO        A = (r - mean of the group) / its standard deviation
    PPO         A_t from a learned value of every prefix: credit within the answer (GAE, `gae.py`)

A baseline that does not look at the answer it judges leaves the gradient unbiased; the mean of a batch or group of n, which
contains it, shrinks it by (n-1)/n. Plain functions of plain arrays; the masks say which entries are real.
"""

import numpy as np

SCALES = ("group", "batch", "none")


def masked_mean(x: np.ndarray, mask: np.ndarray) -> float:
    """Mean of the entries where mask is True; ValueError if there are none."""
    if not mask.any():
        raise ValueError("the mask is False everywhere: there is nothing to average")
    return float(x[mask].mean())


def whiten(x: np.ndarray, mask: np.ndarray, *, shift_mean: bool = True, unbiased: bool = False) -> np.ndarray:
    """x scaled to variance 1 over the entries where mask is True, and to mean 0 unless shift_mean is False.

    Advantages are whitened with the shift, rewards without: shifting rewards would change their sign, and with it what the
    policy is paid for. The variance divides by n (lm-human-preferences) or, unbiased, by n - 1 (TRL). Entries outside the
    mask change nothing and come out as 0.
    """
    values = x[mask]
    if values.size < 1 + unbiased:
        raise ValueError(f"whitening needs at least {1 + unbiased} counted entries, got {values.size}")
    mean, variance = values.mean(), values.var(ddof=int(unbiased))
    whitened = (x - mean) / np.sqrt(variance + 1e-8)
    return np.where(mask, whitened if shift_mean else whitened + mean, 0).astype(x.dtype)


def token_rewards(scores: np.ndarray, kl: np.ndarray, mask: np.ndarray, *, beta: float) -> np.ndarray:
    """r_t = -β kl_t, plus the score on the answer's last token (Ouyang et al. 2022, eq. 2, a token at a time).

    scores (B,), kl (B, R), mask (B, R) -> (B, R). The score judges the whole answer, so it comes when the answer is whole.
    """
    rewards = np.where(mask, -beta * kl, 0).astype(kl.dtype)
    rewards[np.arange(len(scores)), mask.sum(axis=1) - 1] += scores.astype(kl.dtype)
    return rewards


def group_advantages(scores: np.ndarray, *, group_size: int, scale: str = "group", eps: float = 1e-4) -> np.ndarray:
    """GRPO (Shao et al. 2024, section 4.1.2): scores (B,), the G answers to a prompt side by side -> (B,).

    scale   "group" divides by the group's standard deviation, as the paper does, which makes a group of nearly equal answers
            as loud as one of very different ones; "batch" divides by that of the whole batch; "none" not at all (Dr. GRPO, Liu et
            al. 2025). Standard deviations divide by n - 1.
    A group whose answers all got the same score teaches nothing: its advantages are 0.
    """
    groups = _grouped(scores, group_size)
    centred = groups - groups.mean(axis=1, keepdims=True)
    if scale == "group":
        centred = centred / (groups.std(axis=1, ddof=1, keepdims=True) + eps)
    elif scale == "batch":
        centred = centred / (scores.std(ddof=1) + eps)
    elif scale != "none":
        raise ValueError(f"scale is {scale!r}; expected one of {', '.join(SCALES)}")
    return centred.reshape(-1)


def leave_one_out_advantages(scores: np.ndarray, *, group_size: int) -> np.ndarray:
    """RLOO (Kool et al. 2019; Ahmadian et al. 2024): each answer against the mean of the G - 1 others. (B,) -> (B,)."""
    groups = _grouped(scores, group_size)
    others = (groups.sum(axis=1, keepdims=True) - groups) / (group_size - 1)
    return (groups - others).reshape(-1)


def explained_variance(values: np.ndarray, returns: np.ndarray, mask: np.ndarray) -> float:
    """1 - Var(returns - values) / Var(returns): 1 for a perfect value model, 0 for one that knows only the mean.

    0 where the returns do not vary.
    """
    variance = returns[mask].var()
    return float(1 - (returns - values)[mask].var() / variance) if variance > 0 else 0.0


def _grouped(scores: np.ndarray, group_size: int) -> np.ndarray:
    """scores (B,) as (B / G, G); ValueError unless that works out."""
    if group_size < 2:
        raise ValueError(f"group_size is {group_size}; expected at least 2: one answer cannot be compared with itself")
    if scores.ndim != 1 or len(scores) % group_size:
        raise ValueError(f"scores {scores.shape} cannot be cut into groups of group_size {group_size}")
    return scores.reshape(-1, group_size)

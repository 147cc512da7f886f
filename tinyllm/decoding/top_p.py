"""Top-p, or nucleus sampling: of the likeliest tokens as many as are needed for a probability of p (Holtzman et al. 2020, eq. 2).

    0.5  0.3  0.15  0.05        p = 0.75:   0.5 < p,   0.5 + 0.3 >= p:   the first two stay

`nucleus` is the textbook's form. `keep_top_p`, which generation calls, finds the same tokens and sorts only the few that matter.
"""

import numpy as np


def nucleus(probabilities: np.ndarray, p: float) -> np.ndarray:
    """The ids that top-p keeps of one row of probabilities (V,): from the likeliest down, until p is reached."""
    likeliest_first = np.argsort(-probabilities, kind="stable")  # of equals the lowest id first
    reached = np.cumsum(probabilities[likeliest_first]) >= p
    n_kept = np.argmax(reached) + 1 if reached.any() else len(reached)  # the first that reaches it stays too
    return likeliest_first[:n_kept]


def keep_top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """logits (B, V) with -inf for what is not in the nucleus; 0 < p <= 1. Of tokens that tie at the edge the lowest ids stay."""
    out = np.full_like(logits, -np.inf)
    for kept, row in zip(out, logits, strict=True):
        nucleus = _nucleus_of_logits(row, p)
        kept[nucleus] = row[nucleus]
    return out


def _nucleus_of_logits(logits: np.ndarray, p: float) -> np.ndarray:
    """What `nucleus` keeps of softmax(logits), (V,).

    Found from the light end: what is removed may weigh (1 - p) of the total. Tokens lighter than 1/V of that allowance
    are always removed, since all of them together stay below it; this leaves few to sort.
    """
    weights = np.exp((logits - logits.max()).astype(np.float64))
    allowance = (1.0 - p) * weights.sum()
    light = (weights <= allowance / len(weights)) & (weights < 1.0)  # the likeliest, of weight 1, is never light
    heavy = np.flatnonzero(~light)
    lightest_first = heavy[np.argsort(-logits[heavy], kind="stable")][::-1]  # of equals the highest id first
    removed_weight = weights[light].sum() + np.cumsum(weights[lightest_first])
    n_removed = min(np.count_nonzero(removed_weight <= allowance), len(heavy) - 1)
    return lightest_first[n_removed:]

"""Dropout: while training, set each value to 0 with probability p, so that no unit can rely on one other.

    y = x · keep / (1 - p)       keep ~ Bernoulli(1 - p)

Dividing by 1 - p keeps the expected value, so nothing changes at test time (Srivastava et al. 2014, section 10,
"inverted dropout"). The mask is drawn from an explicit generator: a resumed run draws the same masks.
"""

import numpy as np

from tinyllm.autograd import op


@op
def dropout(x, *, p: float, rng: np.random.Generator):
    """x of any shape, p in [0, 1)."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p is the probability of dropping, 0 <= p < 1, got {p}")
    scale = (rng.random(x.shape, dtype=np.float32) >= p).astype(x.dtype) / (1 - p)
    return x * scale, lambda dy: dy * scale

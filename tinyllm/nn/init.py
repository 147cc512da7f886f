"""Where weights start. Too large and the sums explode, too small and nothing reaches the other end.

A sum of n products of independent terms has n times the variance, so weights of standard deviation 1/√n keep the size of
what passes through a layer of n inputs (LeCun et al. 1998, section 4.6). GPT-2 uses 0.02 everywhere (near 1/√n for its
widths; at width 128 it is too little: see benchmarks/LOG.md), and divides it by √(2L) in the layers that write to the
residual stream, since 2L of them add up there (Radford et al. 2019, section 2.3).
"""

import numpy as np

from tinyllm.autograd import Tensor


def normal(*shape: int, std: float, rng: np.random.Generator | None) -> Tensor:
    """Trainable float32 weights from N(0, std²); without an rng zeros, for weights that are about to be loaded."""
    if rng is None:
        return zeros(*shape)
    return Tensor(rng.standard_normal(shape, dtype=np.float32) * np.float32(std), requires_grad=True)


def zeros(*shape: int) -> Tensor:
    """Trainable float32 zeros."""
    return Tensor(np.zeros(shape, np.float32), requires_grad=True)


def ones(*shape: int) -> Tensor:
    """Trainable float32 ones."""
    return Tensor(np.ones(shape, np.float32), requires_grad=True)

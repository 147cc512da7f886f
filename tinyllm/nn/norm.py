"""Layer norm and RMS norm layers. Equations: `ops/norm.py`; loops: `kernels/norm.py`."""

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.nn.init import ones, zeros
from tinyllm.nn.module import Module


class LayerNorm(Module):
    """weight (C,) of ones, bias (C,) of zeros or None (Ba et al. 2016)."""

    def __init__(self, width: int, *, bias: bool = True, eps: float = 1e-5):
        self.weight = ones(width)
        self.bias = zeros(width) if bias else None
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        """x (..., C) -> (..., C)."""
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)


class RMSNorm(Module):
    """weight (C,) of ones; no mean is subtracted and no bias added (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, *, eps: float = 1e-6):
        self.weight = ones(width)
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        """x (..., C) -> (..., C)."""
        return ops.rms_norm(x, self.weight, eps=self.eps)

"""Normalisation: give each position's vector a fixed size before a layer reads it, so that deep stacks train.

    layer norm   y = weight · (x - mean) / √(var + eps) + bias      Ba et al. 2016, eq. 4
    RMS norm     y = weight · x / √(mean(x²) + eps)                 Zhang & Sennrich 2019, eq. 4

Statistics run over the last axis (C), one per position, biased variance. Loops: `kernels/norm.py`; weights: `nn/norm.py`.
"""

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import check_dtypes, op


def _check(op_name: str, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
    check_dtypes(op_name, x=x, weight=weight, bias=bias)
    if not x.ndim:
        raise ValueError(f"{op_name}: x is one number without axes; (..., C) expected")
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None and array.shape != x.shape[-1:]:
            raise ValueError(f"{op_name}: {name} {array.shape} came, {x.shape[-1:]} expected, the last axis of x {x.shape}")


@op
def layer_norm(x, weight, bias, *, eps: float = 1e-5):
    """x (..., C), weight (C,), bias (C,) or None -> (..., C)."""
    _check("layer_norm", x, weight, bias)
    y, mean, rstd = kernels.layer_norm_forward(x, weight, bias, eps)

    def backward(dy):
        dx, dweight, dbias = kernels.layer_norm_backward(dy, x, weight, mean, rstd)
        return dx, dweight, None if bias is None else dbias

    return y, backward


@op
def rms_norm(x, weight, *, eps: float = 1e-6):
    """x (..., C), weight (C,) -> (..., C)."""
    _check("rms_norm", x, weight)
    y, rstd = kernels.rms_norm_forward(x, weight, eps)
    return y, lambda dy: kernels.rms_norm_backward(dy, x, weight, rstd)

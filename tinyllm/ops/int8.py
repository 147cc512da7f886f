"""Products and lookups with int8 weights: what `linear` and `embedding` are for a model that is only used.

    y[n, o] = scale[o] · Σₖ x[n, k] Q[o, k] + b[o]          y = Q[id] · scale[id]

Rounding has no slope, so there is no gradient. Loops: `kernels/product/quantized.py`; rounding, layers: `nn/quantized.py`.
"""

import math

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import op
from tinyllm.ops.cross_entropy import check_ids
from tinyllm.ops.linear import check_residual


@op
def int8_linear(x, weight, scale, bias=None, residual=None, *, needs):
    """x (..., in), weight (out, in) int8, scale (out,), bias (out,) or None -> (..., out), plus residual (..., out)."""
    if any(needs):
        raise ValueError("int8 layers have no gradient: run them under no_grad(), or train the float model and quantize it after")
    n_out, n_in = weight.shape
    if x.dtype != scale.dtype or x.shape[-1:] != (n_in,):
        raise ValueError(f"x must be {scale.dtype} (..., {n_in}) for these int8 weights, got {x.dtype} {x.shape}")
    check_residual("int8_linear", residual, x, n_out=n_out)
    rows = x.reshape(math.prod(x.shape[:-1]), n_in)
    y = kernels.int8_linear_forward(rows, weight, scale, bias).reshape(*x.shape[:-1], n_out)
    return y if residual is None else y + residual, None


@op
def int8_embedding(weight, scale, *, ids: np.ndarray):
    """weight (V, C) int8, scale (V,), ids (...) int -> (..., C)."""
    check_ids(ids, len(weight), "ids")
    return weight[ids] * scale[ids][..., None], None

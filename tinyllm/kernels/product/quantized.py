"""Products with int8 weights: a quarter of the bytes, which is what a step of text generation waits for.

    W[o, k] ≈ scale[o] · Q[o, k],   scale[o] = maxₖ |W[o, k]| / 127,   Q in -127 .. 127       (absmax, a scale for each output)
    y[n, o] = Σₖ x[n, k] W[o, k] ≈ scale[o] · Σₖ x[n, k] Q[o, k]
The scale does not depend on k and comes out of the sum: 16 numbers of Q are loaded, turned into float32 in their register and
multiplied by those of x, as in the dots of matrix_vector.py. x stays float32, unlike in LLM.int8 (Dettmers et al. 2022,
section 2.1), where x is rounded too, to use the int8 arithmetic of GPUs; here memory is what is short, not arithmetic.
"""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.jit import rows
from tinyllm.kernels.product.matrix_vector import multiply_few


def int8_linear_forward(x: ndarray, weight: ndarray, scale: ndarray, bias: ndarray | None = None) -> ndarray:
    """x (N, in), weight (out, in) int8, scale (out,), bias (out,) or None -> (N, out). Meant for few rows of x, right for any."""
    n_out, n_in = weight.shape
    lines = (scale,) if bias is None else (scale, bias)
    if weight.dtype != np.int8 or x.shape[1:] != (n_in,) or any(v.shape != (n_out,) or v.dtype != x.dtype for v in lines):
        came = ", ".join(f"{v.dtype} {v.shape}" for v in (x, weight, *lines))
        raise ValueError(f"int8_linear_forward: {came} came; x (N, in), int8 (out, in), like x (out,) expected")
    y = np.empty((x.shape[0], n_out), x.dtype)
    if y.size:
        line = None if bias is None else rows(bias.reshape(1, -1))[0]
        multiply_few(rows(x), rows(weight).T, y, rows(scale.reshape(1, -1))[0], line)
    return y

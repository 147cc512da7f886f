"""Activation functions: the only non-linear step of a feed-forward layer.

    relu(x) = max(x, 0)         gelu(x) = x Φ(x)        silu(x) = x σ(x)       σ(x) = 1 / (1 + e⁻ˣ)

GELU weighs x by the probability Φ(x) that a normal variable lies below it (Hendrycks & Gimpel 2016, eq. 1); GPT-2 uses
their tanh approximation, BERT the exact form with erf. SiLU is the logistic sibling (ibid.; "swish", Ramachandran et
al. 2017), used by Llama and PaLM inside a gate. Loops: `kernels/elementwise.py`.
"""

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import check_dtypes, op


@op
def relu(x):
    """max(x, 0); gradient 0 at 0."""
    return np.maximum(x, 0), lambda dy: dy * (x > 0)


@op
def tanh(x):
    """tanh x: d tanh x = (1 - tanh² x) dx."""
    y = np.tanh(x)
    return y, lambda dy: dy * (1 - y * y)


@op
def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ) = eˣ / (1 + eˣ), whichever exponent is negative, so that none overflows: dσ = σ (1 - σ) dx."""
    e = np.exp(-np.abs(x))
    y = np.where(x >= 0, 1, e) / (1 + e)
    return y, lambda dy: dy * y * (1 - y)


@op
def log_sigmoid(x):
    """log σ(x) = min(x, 0) - log(1 + e^-|x|), exact where σ(x) would round to 0: d log σ = σ(-x) dx."""
    e = np.exp(-np.abs(x))
    return np.minimum(x, 0) - np.log1p(e), lambda dy: dy * np.where(x >= 0, e, 1) / (1 + e)


@op
def gelu(x, *, approximate: str = "tanh"):
    """x Φ(x), with Φ by "tanh" (GPT-2: Φ ≈ ½(1 + tanh(√(2/π)(x + 0.044715 x³)))) or exactly by "erf" (BERT)."""
    check_dtypes("gelu", x=x)
    if approximate == "tanh":
        return kernels.gelu_tanh_forward(x), lambda dy: kernels.gelu_tanh_backward(dy, x)
    if approximate == "erf":
        return kernels.gelu_erf_forward(x), lambda dy: kernels.gelu_erf_backward(dy, x)
    raise ValueError(f"gelu: approximate is 'tanh' or 'erf', got {approximate!r}")


@op
def silu(x):
    """x σ(x)."""
    check_dtypes("silu", x=x)
    return kernels.silu_forward(x), lambda dy: kernels.silu_backward(dy, x)

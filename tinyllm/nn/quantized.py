"""Int8 layers: a trained model at a quarter of its memory, and several times as fast where memory is the limit.

    scale[o] = maxₖ |W[o, k]| / 127        Q[o, k] = round(W[o, k] / scale[o])        W ≈ scale · Q

One scale for each output, so that an output with small weights keeps its digits beside one with large weights (absmax
quantisation by row: Dettmers et al. 2022, LLM.int8, section 2.1). An error of at most scale/2 a weight is left; what it costs in
perplexity is measured by benchmarks/int8.py. These layers are for use, not for training: rounding has no slope.
Calculus: `ops/int8.py`.
"""

from typing import TypeVar

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.nn.embedding import Embedding
from tinyllm.nn.linear import Linear
from tinyllm.nn.module import HasModules, Module

Whole = TypeVar("Whole", bound=HasModules)  # a model
ROWS_AT_ONCE = 1024  # rows rounded at a time, so that the float copies stay small


def quantize_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """weight (out, in) floats -> Q (out, in) int8 and scale (out,), of weight's dtype; a row of zeros gets scale 1.

    Raises ValueError for weights that are not finite.
    """
    if weight.ndim != 2 or weight.dtype.kind != "f":
        raise ValueError(f"weight must be a floating point matrix (out, in), got {weight.dtype} {weight.shape}")
    quantized, scale = np.empty(weight.shape, np.int8), np.empty(weight.shape[0], weight.dtype)
    for i in range(0, len(weight), ROWS_AT_ONCE):
        part = weight[i : i + ROWS_AT_ONCE]
        largest = np.abs(part).max(axis=1, initial=0)
        if not np.isfinite(largest).all():
            raise ValueError("weight has a NaN or infinity, which int8 cannot hold; the model is probably broken")
        steps = np.where(largest > 0, largest / 127, 1).astype(weight.dtype)
        steps[steps == 0] = np.finfo(weight.dtype).tiny  # the largest is the tiniest number there is
        quantized[i : i + ROWS_AT_ONCE] = np.clip(np.rint(part / steps[:, None]), -127, 127)
        scale[i : i + ROWS_AT_ONCE] = steps
    return quantized, scale


class QuantizedLinear(Module):
    """What `Linear` becomes: weight (out, in) int8, scale (out,), bias (out,) or None."""

    def __init__(self, layer: Linear):
        self.weight, self.scale = map(Tensor, quantize_rows(layer.weight.data))
        self.bias = None if layer.bias is None else layer.bias.detach()

    def __call__(self, x: Tensor, *, residual: Tensor | None = None) -> Tensor:
        """x (..., in) -> (..., out), plus `residual` if there is one."""
        return ops.int8_linear(x, self.weight, self.scale, self.bias, residual)


class QuantizedEmbedding(Module):
    """What `Embedding` becomes: weight (V, C) int8, scale (V,)."""

    def __init__(self, layer: Embedding):
        self.weight, self.scale = map(Tensor, quantize_rows(layer.weight.data))

    def __call__(self, ids: np.ndarray) -> Tensor:
        """ids (...) int -> (..., C). ValueError names an id outside the table."""
        return ops.int8_embedding(self.weight, self.scale, ids=np.asarray(ids))

    def scores(self, x: Tensor) -> Tensor:
        """x (..., C) -> (..., V)."""
        return ops.int8_linear(x, self.weight, self.scale)


def quantize(model: Whole, *, keep: tuple[str, ...] = ("positions",)) -> Whole:
    """Turn every Linear and Embedding of `model` into its int8 twin, in place, and return it frozen and in eval mode.

    `keep`: attributes left in floating point; a table of positions is small, and added to everything. Each float weight is
    let go as soon as its twin is made, so that memory falls to about a quarter.
    """
    twins = {Linear: QuantizedLinear, Embedding: QuantizedEmbedding}
    for _, module in list(model.named_modules()):
        for name, child in vars(module).items():
            if type(child) in twins and name not in keep:
                setattr(module, name, twins[type(child)](child))
    for _, parameter in model.named_parameters():
        parameter.requires_grad = False
    model.eval()
    return model

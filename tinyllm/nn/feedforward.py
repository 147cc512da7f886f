"""Feed-forward layer: at each position, widen, bend, narrow.

    plain    y = W_down gelu(W_up x + b) + b              Vaswani et al. 2017, eq. 2, with GELU for ReLU
    gated    y = W_down (silu(W_gate x) ∘ W_up x)         Shazeer 2020, eq. 6 (SwiGLU)

Two thirds of a model's weights are here. One way to read it: W_up's rows are F patterns to look for in x, W_down's columns are
what to add to the stream for each one found (Geva et al. 2021). In the gated layer one product says what was found, the other
whether it counts; three matrices of 2/3 the width cost what two cost. Both as one op: `ops/feedforward.py`.
"""

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.nn.linear import Linear
from tinyllm.nn.module import Module


class FeedForward(Module):
    """up (F, C) and down (C, F). `out_std`: initial standard deviation of `down`."""

    def __init__(
        self, d_model: int, d_feedforward: int, *, bias: bool = True, std: float = 0.02, out_std: float = 0.02,
        rng: np.random.Generator | None,
    ):  # fmt: skip
        self.up = Linear(d_model, d_feedforward, bias=bias, std=std, rng=rng)
        self.down = Linear(d_feedforward, d_model, bias=bias, std=out_std, rng=rng)

    def __call__(self, x: Tensor, *, residual: Tensor | None = None) -> Tensor:
        """x (..., C) -> (..., C), plus `residual` if there is one."""
        up, down = self.up, self.down
        if type(up) is type(down) is Linear:  # the same in one op, which does more with each array while it is in the cache
            return ops.gelu_feedforward(x, up.weight, up.bias, down.weight, down.bias, residual)
        return down(ops.gelu(up(x), approximate="tanh"), residual=residual)


class GatedFeedForward(Module):
    """gate and up (F, C), down (C, F), without biases."""

    def __init__(
        self, d_model: int, d_feedforward: int, *, std: float = 0.02, out_std: float = 0.02, rng: np.random.Generator | None
    ):
        self.gate = Linear(d_model, d_feedforward, bias=False, std=std, rng=rng)
        self.up = Linear(d_model, d_feedforward, bias=False, std=std, rng=rng)
        self.down = Linear(d_feedforward, d_model, bias=False, std=out_std, rng=rng)

    def __call__(self, x: Tensor, *, residual: Tensor | None = None) -> Tensor:
        """x (..., C) -> (..., C), plus `residual` if there is one."""
        gate, up, down = self.gate, self.up, self.down
        if type(gate) is type(up) is type(down) is Linear:  # the same in one op
            return ops.silu_feedforward(x, gate.weight, up.weight, down.weight, residual)
        return down(ops.silu(gate(x)) * up(x), residual=residual)

"""Low-rank adaptation: leave a trained layer as it is and learn a small correction beside it.

    y = W x + b + (α/r) B A x        A (r, in) from N(0, 1/in), B (out, r) = 0        (Hu et al. 2022, eq. 3)

Fine-tuning changes W by something that is nearly of low rank, so only A and B are trained: r·(in + out) numbers instead
of in·out, and optimizer memory and gradients for those alone. B = 0 makes the first forward that of the old model, and
α/r keeps the size of the correction when r is changed. Switched off (`lora_disabled`) the model is the old one again: a
frozen reference at no cost. Afterwards B A can be added into W (`merge_lora`), and nothing is slower. Differs from the
paper's GPT-2: query, key and value share one matrix here, so all three are adapted; no dropout before A.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.nn.linear import Linear
from tinyllm.nn.module import HasModules, Module

BLOCK = ("qkv", "query", "key", "value", "out", "gate", "up", "down")  # every matrix of a block, whichever of them it has


class LoRALinear(Module):
    """A frozen Linear and its correction. Trained: lora_a (r, in), lora_b (out, r). weight and bias keep their names."""

    def __init__(self, layer: Linear, *, rank: int, alpha: float, rng: np.random.Generator):
        n_out, n_in = layer.weight.shape
        if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or not 1 <= rank <= min(n_in, n_out):
            raise ValueError(f"rank must be a whole number from 1 to {min(n_in, n_out)} for a weight {n_out, n_in}, got {rank!r}")
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be a finite number above 0, got {alpha!r}")
        dtype = layer.weight.dtype
        self.weight, self.bias = layer.weight, layer.bias
        self.lora_a = Tensor((rng.standard_normal((rank, n_in)) / math.sqrt(n_in)).astype(dtype), requires_grad=True)
        self.lora_b = Tensor(np.zeros((n_out, rank), dtype), requires_grad=True)
        self.rank, self.alpha, self.enabled = int(rank), float(alpha), True

    @property
    def scale(self) -> float:
        """α/r."""
        return self.alpha / self.rank

    def __call__(self, x: Tensor, *, residual: Tensor | None = None) -> Tensor:
        """x (..., in) -> (..., out), plus `residual` if there is one. B's product adds to W's while it makes its own."""
        y = ops.linear(x, self.weight, self.bias, residual)
        if not self.enabled:
            return y
        low = ops.linear(x, self.lora_a, None) * self.scale  # (..., r): scaled where it is smallest
        return ops.linear(low, self.lora_b, None, y)

    def merged(self) -> Linear:
        """A plain Linear with W + (α/r) B A; its weight is a new array, trained or frozen like W. The bias is shared."""
        layer = Linear(1, 1, bias=False, rng=None)
        layer.weight = Tensor(self.weight.data + self.scale * (self.lora_b.data @ self.lora_a.data))
        layer.weight.requires_grad, layer.weight.frozen = self.weight.requires_grad, self.weight.frozen
        layer.bias = self.bias
        return layer


def add_lora(
    model: Module, *, rank: int, alpha: float, targets: Sequence[str] | None = None, trained: Sequence[str] = (),
    rng: np.random.Generator,
) -> Module:  # fmt: skip
    """Give each Linear under an attribute named in `targets` its LoRA twin, in place; freeze all else; return `model`.

    targets: all matrices of the blocks unless given; the paper's choice, attention alone, is ("qkv",), or ("query", "value").
    trained: beginnings of weight names that stay trained, such as "head" of a classifier. The twins are made in the
    model's order with one `rng`, so the same seed gives the same A. ValueError if a target or a name does not occur, or
    if the model has adapters already. Make the optimizer afterwards: it holds the weights that are trained.
    """
    if has_lora(model):
        raise ValueError("model has LoRA adapters already; merge_lora(model) first, or go on training those it has")
    names = {name for _, module in model.named_modules() for name, child in vars(module).items() if type(child) is Linear}
    targets = [name for name in BLOCK if name in names] if targets is None else targets
    if missing := [target for target in targets if target not in names]:
        raise ValueError(f"targets: no Linear is called {missing[0]!r}; this model has {', '.join(sorted(names)) or 'none'}")
    weights = list(model.named_parameters())
    if missing := [start for start in trained if not any(name.startswith(start) for name, _ in weights)]:
        raise ValueError(f"trained: no weight's name begins with {missing[0]!r}; the first is {weights[0][0]!r}")
    twins = [
        (module, name, LoRALinear(child, rank=rank, alpha=alpha, rng=rng))
        for _, module in model.named_modules()
        for name, child in vars(module).items()
        if type(child) is Linear and name in targets
    ]
    model.zero_grad()
    for name, weight in weights:
        if not name.startswith(tuple(trained)):
            weight.freeze()
    for module, name, twin in twins:
        setattr(module, name, twin)
    return model


def merge_lora(model: Module) -> Module:
    """Replace each LoRALinear by a plain Linear that computes the same, in place; what is frozen is trained again."""
    for _, module in list(model.named_modules()):
        for name, child in vars(module).items():
            if isinstance(child, LoRALinear):
                setattr(module, name, child.merged())
    for _, weight in model.named_parameters():
        weight.unfreeze()
    return model


def lora_layers(model: HasModules) -> dict[str, LoRALinear]:
    """Path -> layer for every LoRALinear of `model`, in the model's order."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoRALinear)}


def has_lora(model: HasModules) -> bool:
    """Whether any layer of `model` is a LoRALinear."""
    return any(isinstance(module, LoRALinear) for _, module in model.named_modules())


@contextmanager
def lora_disabled(model: HasModules) -> Iterator[None]:
    """Inside, `model` computes what it did before it was adapted; afterwards each layer is as it was."""
    layers = [(layer, layer.enabled) for layer in lora_layers(model).values()]
    try:
        for layer, _ in layers:
            layer.enabled = False
        yield
    finally:
        for layer, was_enabled in layers:
            layer.enabled = was_enabled

"""Is a hand-written gradient right? Compare it with the slope measured from values alone.

    df/dx ≈ (f(x + h) - f(x - h)) / 2h          central difference, error O(h²)

In float64 with h = 1e-6 the rounding error is about 1e-10 of the values' size, so a correct backward agrees to 1e-6
relative and a wrong one does not come near. A function with many outputs is first reduced to one number by a fixed
random weighting, so that errors cannot cancel.
"""

from collections.abc import Callable

import numpy as np

from tinyllm.autograd.modes import no_grad
from tinyllm.autograd.tensor import Tensor, multiply, op


@op
def _total(x):
    return x.sum(), lambda dy: np.broadcast_to(dy, x.shape)


def numerical_gradient(function: Callable[[], float], array: np.ndarray, *, step: float = 1e-6) -> np.ndarray:
    """Central differences of `function()` with respect to each element of `array`, which is nudged in place."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        above = function()
        array[index] = kept - step
        below = function()
        array[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


def gradcheck(
    function: Callable[..., Tensor], *inputs: np.ndarray, step: float = 1e-6, tolerance: float = 1e-6, seed: int = 0
) -> float:
    """Largest error of `function`'s gradients; raises AssertionError if it is above `tolerance`.

    An input's error is relative to the largest of its slopes, or absolute where that is below 1.

    function  takes one Tensor per input and returns a Tensor of any shape
    inputs    float64 arrays (float32 has too few digits for differences); each is checked in full
    """
    for position, array in enumerate(inputs):
        if array.dtype != np.float64:
            raise ValueError(f"gradcheck: input {position} is {array.dtype}; float64 is needed to see 1e-6")
    inputs = tuple(np.array(array, order="K") for array in inputs)
    tensors = [Tensor(array, requires_grad=True) for array in inputs]
    with no_grad():
        shape = function(*tensors).shape
    weights = np.random.default_rng(seed).standard_normal(shape)

    def scalar() -> float:
        with no_grad():
            return float((function(*tensors).data * weights).sum())

    _total(multiply(function(*tensors), weights)).backward()
    worst = 0.0
    for position, (tensor, array) in enumerate(zip(tensors, inputs, strict=True)):
        analytic = np.zeros_like(array) if tensor.grad is None else tensor.grad
        numeric = numerical_gradient(scalar, array, step=step)
        size = max(1.0, np.abs(numeric).max(initial=0.0))
        error = float(np.abs(analytic - numeric).max(initial=0.0)) / size
        assert error <= tolerance, f"gradient of input {position}: relative error {error:.2e} > {tolerance:.0e}"
        worst = max(worst, error)
    return worst

"""Gradients by hand, then by the engine, then used: the whole of deep learning in one small file.

A straight line y = w x + b is fitted to noisy points. First the gradient of the loss is worked out on paper and typed in;
then `Tensor.backward` finds the same numbers by the chain rule; then a few hundred steps downhill find the line.
Last, a new op is written, with its backward, and checked against slopes measured from values alone.

Read next: tinyllm/autograd/graph.py and tensor.py.
"""

from __future__ import annotations

import numpy as np

from tinyllm import Tensor, op, ops
from tinyllm.autograd import gradcheck


def loss_of(w: Tensor, b: Tensor, x: np.ndarray, y: np.ndarray) -> Tensor:
    """Mean squared error of the line's predictions."""
    error = w * x + b - y
    return ops.mean(error * error)


def gradient_by_hand(w: float, b: float, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """d/dw mean(e²) = mean(2 e x) and d/db mean(e²) = mean(2 e), with e = w x + b - y."""
    error = w * x + b - y
    return float((2 * error * x).mean()), float((2 * error).mean())


@op
def softplus(x):
    """log(1 + eˣ), a smooth max(x, 0). Its slope is the logistic function."""
    y = np.logaddexp(0, x)
    return y, lambda dy: dy / (1 + np.exp(-x))


def main(steps: int = 200, seed: int = 0) -> dict[str, float]:
    """Fit the line; returns what was found."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, 100)
    y = 3 * x - 0.5 + 0.1 * rng.standard_normal(100)

    w, b = Tensor(np.array(0.0), requires_grad=True), Tensor(np.array(0.0), requires_grad=True)
    loss_of(w, b, x, y).backward()
    by_hand = gradient_by_hand(0.0, 0.0, x, y)
    print("gradient at w = b = 0")
    print(f"  by hand    dw {by_hand[0]:+.6f}  db {by_hand[1]:+.6f}")
    print(f"  backward() dw {w.grad:+.6f}  db {b.grad:+.6f}")

    print("\nwalking downhill, w -= 0.3 dw, b -= 0.3 db")
    for step in range(steps):
        w.grad = b.grad = None
        loss = loss_of(w, b, x, y)
        loss.backward()
        w, b = (Tensor(p.data - 0.3 * p.grad, requires_grad=True) for p in (w, b))
        if step in (0, 1, 2, 5, 10, 20, 50) or step == steps - 1:
            print(f"  step {step:4d}  loss {loss.item():.5f}  w {w.item():+.4f}  b {b.item():+.4f}")
    print("  the points were made with w = 3, b = -0.5, and noise of variance 0.01: that is the loss that remains")

    error = gradcheck(softplus, rng.standard_normal((3, 4)))
    print(f"\na new op, softplus: its backward agrees with measured slopes to {error:.0e}")
    return {"loss": loss.item(), "w": w.item(), "b": b.item(), "gradcheck": error}


if __name__ == "__main__":
    main()

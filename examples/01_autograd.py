"""Gradients by hand, then by the engine, then used: the whole of deep learning in one small file.

A straight line y = w x + b is fitted to noisy points. First the gradient of the loss is worked out on paper and typed in;
then `Tensor.backward` finds the same numbers by the chain rule; then a few hundred steps downhill find the line.
Last, a new op is written, with its backward, and checked against slopes measured from values alone.

Read next: tinyllm/autograd/backward.py, graph.py and tensor.py.
"""

from __future__ import annotations

import lesson
import numpy as np

from tinyllm import Tensor, op, ops
from tinyllm.autograd import gradcheck
from tinyllm.report.chart import Line, Plot, picture

SHOWN = (0, 1, 2, 5, 10, 20, 50)  # steps that are printed


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


def draw(x: np.ndarray, y: np.ndarray, path: list[tuple[float, float, float]]) -> str:
    """The points with the line at several steps, and the loss; path: (w, b, loss before the step) of each step."""
    points = Line("the points", x, y, colour=1, dots=2.2, joined=False)
    ends, last = np.array([-1.0, 1.0]), len(path) - 1
    shown = [step for step in (0, 2, 5) if step < last]
    lines = [Line("", ends, path[step][0] * ends + path[step][1], dashed=True, faint=True) for step in shown]
    fitted = Line(f"the line after {last} steps (faint: 0, 2, 5)", ends, path[last][0] * ends + path[last][1])
    losses = [loss for _, _, loss in path]
    return picture([
        Plot("y against x", "x", [points, *lines, fitted]),
        Plot("loss (mean squared error)", "step", [Line("", range(len(losses)), losses)], levels=[(0.01, "the noise: 0.01")],
             log="y"),
    ], title="Downhill along the gradient: a line finds its points")  # fmt: skip


def main(steps: int = 200, seed: int = 0, *, rate: float = 0.3, figure: str | None = None) -> dict[str, float]:
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
    difference = max(abs(by_hand[0] - w.grad), abs(by_hand[1] - b.grad))

    print(f"\nwalking downhill, w -= {rate} dw, b -= {rate} db")
    path = []
    for step in range(steps):
        w.grad = b.grad = None
        loss = loss_of(w, b, x, y)
        loss.backward()
        path.append((w.item(), b.item(), loss.item()))
        if step in SHOWN or step == steps - 1:
            print(f"  step {step:4d}  loss {loss.item():.5f}  w {w.item():+.4f}  b {b.item():+.4f}")
        w, b = (Tensor(p.data - rate * p.grad, requires_grad=True) for p in (w, b))
    print("  the points were made with w = 3, b = -0.5, and noise of variance 0.01: that is the loss that remains")

    error = gradcheck(softplus, rng.standard_normal((3, 4)))
    print(f"\na new op, softplus: its backward agrees with measured slopes to {error:.0e}")
    lesson.save_figure(draw(x, y, path), figure)
    return {"loss": loss.item(), "w": w.item(), "b": b.item(), "gradcheck": error, "difference": float(difference)}


if __name__ == "__main__":
    lesson.run(
        main,
        file=__file__,
        doc=__doc__,
        flags={"steps": "steps downhill", "seed": "of the points and their noise", "rate": "how far a step goes"},
        full={"steps": 1000},
        full_time="a second",
        tries=[
            (
                "--rate 0.9",
                "faster: after 5 steps the loss is 0.010, where the rate of 0.3 still has 0.30; b overshoots and comes back",
            ),
            (
                "--rate 1.1",
                "it diverges: the loss is 12 after 20 steps and 3,000,000 after 50; each step goes further beyond the "
                "valley than it came from",
            ),
            (
                "--steps 10",
                "almost there: w is 2.66 and the loss 0.050; what is missing gets smaller by a fifth or more with every step",
            ),
        ],
    )

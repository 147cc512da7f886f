"""Elementwise ops beyond Python's operators: each output depends on one input element (two for the binary ones).

For y = f(x) element by element the Jacobian is diagonal, so backward is one product: dx = dy · f'(x).
NumPy's own loops are vectorised, so these need no kernel. A tie in maximum, minimum gives each side half the gradient,
the mean of the two one-sided slopes.
"""

import numpy as np

from tinyllm.autograd import op


@op
def exp(x):
    """eˣ: d eˣ = eˣ dx."""
    y = np.exp(x)
    return y, lambda dy: dy * y


@op
def log(x):
    """ln x, for x > 0: d ln x = dx / x."""
    return np.log(x), lambda dy: dy / x


@op
def sqrt(x):
    """√x, for x > 0: d√x = dx / 2√x."""
    y = np.sqrt(x)
    return y, lambda dy: dy / (2 * y)


@op
def absolute(x):
    """|x|: d|x| = sign(x) dx, 0 at 0."""
    return np.abs(x), lambda dy: dy * np.sign(x)


@op
def maximum(a, b):
    """max(a, b) element by element, broadcast."""
    return np.maximum(a, b), lambda dy: _to_winners(dy, np.greater(a, b), np.equal(a, b))


@op
def minimum(a, b):
    """min(a, b) element by element, broadcast."""
    return np.minimum(a, b), lambda dy: _to_winners(dy, np.less(a, b), np.equal(a, b))


def _to_winners(dy: np.ndarray, a_wins: np.ndarray, tie: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    share = np.where(tie, dy.dtype.type(0.5), a_wins.astype(dy.dtype))
    return dy * share, dy * (1 - share)


@op
def clip(x, *, low: float | None = None, high: float | None = None):
    """min(max(x, low), high), or with one of the limits only: no gradient where the value was clipped."""
    if low is None and high is None:
        raise ValueError("clip: give low, high or both")
    least, most = -np.inf if low is None else low, np.inf if high is None else high
    return np.clip(x, low, high), lambda dy: dy * ((x >= least) & (x <= most))


@op
def where(a, b, *, condition: np.ndarray):
    """a where condition (bool, broadcast) is True, b elsewhere."""
    condition = np.asarray(condition, dtype=bool)  # of an integer 1, ~ would be -2
    return np.where(condition, a, b), lambda dy: (dy * condition, dy * ~condition)

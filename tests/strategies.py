"""Shared hypothesis strategies: shapes with empty and one-element axes, and arrays that lie in memory in every way NumPy allows.

Numbers come from a seed that hypothesis draws (drawing each number would be slow and would add nothing); what matters and
is shrunk is the shape, the dtype and the layout. Import with `from strategies import ...`.
"""

import numpy as np
from hypothesis import strategies as st

DTYPES = st.sampled_from([np.float32, np.float64])
LAYOUTS = ("C", "Fortran", "strided", "negative strides", "read-only", "read-only strided", "misaligned")


def shapes(min_dims=1, max_dims=3, *, min_side=0, max_side=7):
    """Tuples of sides; 0 and 1 are among them, and sides around the vector width are frequent in the last axis."""
    leading = st.lists(st.integers(min_side, max_side), min_size=min_dims - 1, max_size=max_dims - 1)
    last = st.one_of(st.integers(max(min_side, 1), max_side), st.sampled_from([1, 15, 16, 17, 31, 33, 64, 65]))
    return st.builds(lambda sides, side: (*sides, side), leading, last)


def laid_out(x, layout):
    """An array equal to x that lies in memory as `layout` says (one of LAYOUTS)."""
    x = np.asarray(x)
    if layout == "Fortran":
        return np.array(x, order="F")
    if "strided" in layout:
        wide = np.full(tuple(2 * side for side in x.shape), 7, x.dtype)
        y = wide[(..., *(slice(None, None, 2) for _ in x.shape))]
        y[...] = x
    elif layout == "negative strides":
        backwards = tuple(slice(None, None, -1) for _ in x.shape)
        y = np.array(x[backwards], order="C")[(..., *backwards)]
    elif layout == "misaligned":
        y = np.frombuffer(bytearray(x.nbytes + 1), np.uint8)[1:].view(x.dtype).reshape(x.shape)
        y[...] = x
    else:
        y = np.array(x, order="C")
    if "read-only" in layout:
        y.flags.writeable = False
    return y


@st.composite
def arrays_with_layout(draw, shape, dtype, *, scale=1.0):
    """Normally distributed numbers times `scale`, of the given shape and dtype, in a drawn layout."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return laid_out((scale * rng.standard_normal(shape)).astype(dtype), draw(st.sampled_from(LAYOUTS)))


@st.composite
def integers_with_layout(draw, shape, high):
    """Integers in [0, high) of the given shape, of a drawn integer dtype, in a drawn layout."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.int64, np.int32, np.uint16]))
    return laid_out(rng.integers(0, high, shape).astype(dtype), draw(st.sampled_from(LAYOUTS)))


@st.composite
def masks(draw, shape):
    """A bool array broadcastable to `shape`: some axes have length 1, some leading axes are missing; or None."""
    if draw(st.booleans()) and draw(st.booleans()):
        return None
    sides = tuple(1 if draw(st.booleans()) else side for side in shape)
    sides = sides[draw(st.integers(0, len(shape) - 1)) :]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return laid_out(rng.random(sides) < draw(st.sampled_from([0.0, 0.3, 0.9])), draw(st.sampled_from(LAYOUTS)))

"""Einstein's summation: a product written by the letters of its axes, "bthd,bshd->bhts" for the scores of attention.

    out[of its letters] = Σ over all other letters of the product of the operands

Each operand's gradient is another such sum, in which the result's gradient takes the operand's place:
for "ij,jk->ik",  dA = "ik,jk->ij" of dY and B. A letter that only this operand has was summed over alone, so each of its
elements gets the same. `...` stands for leading axes, broadcast. Einstein 1916.
"""

from collections import Counter
from string import ascii_letters
from typing import Any

import numpy as np

from tinyllm.autograd import Tensor, op


def _terms(subscripts: str, n_axes: list[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, dots written out. ValueError for what is not understood."""
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(n_axes):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, {len(n_axes)} came")
    dots = [n - len(term.replace("...", "")) if "..." in term else 0 for term, n in zip(terms, n_axes, strict=True)]
    if min(dots, default=0) < 0:
        raise ValueError(f"einsum: {subscripts!r} has more letters than operands of {n_axes} axes")
    spare = "".join(letter for letter in ascii_letters if letter not in subscripts)[: max(dots, default=0)]
    full = [term.replace("...", spare[len(spare) - n :]) for term, n in zip(terms, dots, strict=True)]
    if not arrow:  # as in NumPy: what occurs once, in alphabetical order
        counts = Counter("".join(terms).replace(".", ""))
        out = "..." * (spare != "") + "".join(sorted(letter for letter, count in counts.items() if count == 1))
    out = out.replace("...", spare)
    for term in (*full, out):
        if not term.isalpha() and term or len(set(term)) < len(term):
            raise ValueError(f"einsum: {term!r} in {subscripts!r}; each axis of a term needs a letter of its own")
    return full, out


def _gradient(i: int, dy: np.ndarray, xs: tuple, terms: list[str], out: str) -> np.ndarray:
    """The gradient of operand i: the same sum, with dy in its place."""
    others = [j for j in range(len(xs)) if j != i]
    known = set(out).union(*(terms[j] for j in others))
    seen = "".join(letter for letter in terms[i] if letter in known)
    formula = ",".join([out, *(terms[j] for j in others)]) + "->" + seen
    d = np.einsum(formula, dy, *(xs[j] for j in others), optimize=True)
    alone = tuple(axis for axis, letter in enumerate(terms[i]) if letter not in known)
    d = np.expand_dims(d, alone)
    return np.broadcast_to(d, np.broadcast_shapes(d.shape, xs[i].shape))


@op
def _einsum(*xs, subscripts: str, needs):
    terms, out = _terms(subscripts, [np.ndim(x) for x in xs])
    y = np.einsum(",".join(terms) + "->" + out, *xs, optimize=True)
    return y, lambda dy: tuple(_gradient(i, dy, xs, terms, out) if needs[i] else None for i in range(len(xs)))


def einsum(subscripts: str, *xs: Any) -> Tensor:
    """np.einsum of Tensors: einsum("ij,jk->ik", a, b). No letter twice in one operand: take a diagonal by indexing."""
    return _einsum(*xs, subscripts=subscripts)

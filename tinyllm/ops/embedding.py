"""Embedding: a table with one learned vector per token id.

    y = weight[ids]              dweight[id] = Σ dy over the positions that read row id

Looking a row up is the same as multiplying by a one-hot vector, without the multiplying; the gradient is therefore added
up by row, and only the rows that were read have one (`RowGradient`). Bengio et al. 2003, section 2. Loops:
`kernels/embedding.py`; weights: `nn/embedding.py`.
"""

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import RowGradient, check_dtypes, op
from tinyllm.ops.cross_entropy import check_ids


@op
def embedding(weight, *, ids: np.ndarray):
    """weight (V, C), ids (...) int -> (..., C)."""
    check_dtypes("embedding", weight=weight)
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight {weight.shape} came, (V, C) expected, a row for each id")
    check_ids(ids, weight.shape[0], "ids")
    return kernels.embedding_forward(weight, ids), lambda dy: RowGradient(ids, dy, weight.shape)

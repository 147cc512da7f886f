"""Drawing a token from each row of logits, in plain NumPy."""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.reference.softmax import log_softmax_forward


def sample_rows(logits: ndarray, uniform: ndarray) -> tuple[ndarray, ndarray]:
    """The first token at which p(0) + p(1) + ... exceeds the row's uniform number, and log p of it; p = softmax(logits)."""
    log_probs = log_softmax_forward(logits)
    ends = np.cumsum(np.exp(log_probs), axis=-1, dtype=np.float64)
    targets = np.asarray(uniform, np.float64)[:, None] * ends[:, -1:]
    tokens = (ends <= targets).sum(axis=-1)  # a token of probability 0 ends where it begins: passed over
    return tokens, np.take_along_axis(log_probs, tokens[:, None], axis=-1)[:, 0]

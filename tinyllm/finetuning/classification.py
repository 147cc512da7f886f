"""Classification: the model reads a text to its end, and a head on its last state says which class it is.

    scores = W h_last        loss = -1/n Σ log softmax(scores)[label]        n = texts in the whole step

What was learned by predicting words is used for something else: a few hundred labelled texts are then enough (Radford et al.
2018, section 3.2). The last real token is read because only it has seen all the others. The same loop trains it as
everything else: a batch is texts with labels, its `n_counted` the number of texts. Model: `models/heads.py`.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.data.batches import Epochs, check_identity
from tinyllm.models import SequenceClassifier
from tinyllm.nn import evaluating


@dataclass(frozen=True)
class LabelledBatch:
    """tokens (B, T) int64, padded on the right; attention_mask (B, T) bool, True = real; labels (B,) int64."""

    tokens: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray

    @property
    def n_counted(self) -> int:
        """The number of texts: each counts once in the loss, however long it is."""
        return len(self.labels)


class LabelledTexts:
    """A batch source: every epoch each text once, in a new order. The last batch of an epoch may have fewer rows.

    texts: token ids of each, none empty. labels: their classes, from 0. `state`/`restore` as every `data.BatchSource`.
    """

    def __init__(self, texts: Sequence[Sequence[int]], labels: Sequence[int], *, batch_size: int, rng: np.random.Generator):
        _check(texts, labels, batch_size)
        self.texts, self.labels, self.batch_size = list(texts), np.asarray(labels, np.int64), batch_size
        self.epochs = Epochs(lambda rng: rng.permutation(len(self.texts)).tolist(), rng=rng)
        ids = np.array([i for text in self.texts for i in (*text, -1)])
        self._crc32 = zlib.crc32(self.labels.tobytes(), zlib.crc32(ids.tobytes()))

    def next_batch(self) -> LabelledBatch:
        """The next batch_size texts of the epoch."""
        order = self.epochs.take(self.batch_size)
        return _batch([self.texts[i] for i in order], self.labels[order])

    def state(self) -> dict[str, Any]:
        """Where the epoch stands, and the identity of the data."""
        return {**self._identity(), **self.epochs.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; ValueError if it was taken with other texts, labels or sizes."""
        check_identity(self._identity(), state)
        self.epochs.restore(state)

    def _identity(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "n": len(self.texts), "crc32": self._crc32}


def labelled_batches(texts: Sequence[Sequence[int]], labels: Sequence[int], *, batch_size: int) -> list[LabelledBatch]:
    """Every text once, the same batches each time, of like lengths: for measuring."""
    _check(texts, labels, batch_size)
    order = np.argsort([len(text) for text in texts], kind="stable")
    parts = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    return [_batch([texts[i] for i in part], np.asarray(labels, np.int64)[part]) for part in parts]


def _check(texts: Sequence[Sequence[int]], labels: Sequence[int], batch_size: int) -> None:
    if len(texts) != len(labels) or not len(texts):
        raise ValueError(f"labels must be one for each text and there must be some, got {len(labels)} for {len(texts)} texts")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if empty := [i for i, text in enumerate(texts) if not len(text)]:
        raise ValueError(f"texts[{empty[0]}] is empty, so there is no last token to read; leave it out")
    if min(labels) < 0:
        raise ValueError(f"labels must be classes counted from 0, got {min(labels)}")


def _batch(texts: list[Sequence[int]], labels: np.ndarray) -> LabelledBatch:
    lengths = np.array([len(text) for text in texts])
    tokens = np.zeros((len(texts), int(lengths.max())), np.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = text
    return LabelledBatch(tokens, np.arange(tokens.shape[1]) < lengths[:, None], labels)


def classification_loss(model: SequenceClassifier, batch: LabelledBatch, *, n_counted: int | None = None) -> Tensor:
    """Sum of -log p(label) over the texts, divided by `n_counted` (their number), in nats; model: SequenceClassifier."""
    return ops.cross_entropy(model(batch.tokens, batch.attention_mask), batch.labels, n_counted=n_counted)


def confusion_matrix(model: SequenceClassifier, batches: Sequence[LabelledBatch], *, n_labels: int) -> np.ndarray:
    """(n_labels, n_labels) counts: row = true class, column = the class with the highest score. Accuracy = trace / sum."""
    counts = np.zeros((n_labels, n_labels), np.int64)
    with evaluating(model):
        for batch in batches:
            predicted = model(batch.tokens, batch.attention_mask).data.argmax(axis=-1)
            np.add.at(counts, (batch.labels, predicted), 1)
    return counts

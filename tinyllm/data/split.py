"""Holding documents out, so that the loss is also measured on text that was never trained on.

The split is by document, never inside one, and by content: documents are walked in the order of their sha256 and go to
validation while they fit into its share of the bytes, until nine tenths of the share are full. So the choice looks
random, is the same on every machine, moves little when documents are added, and two copies of a document fall on the
same side (copies of training text in the validation set make a model look better than it is: Lee et al. 2022,
"Deduplicating Training Data Makes Language Models Better", section 6).
`split_tail` holds out the end instead, as nanoGPT does for a single text: the last tenth of a novel, say.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyllm.data.documents import content_digest

Documents = tuple[bytes, ...]


def split_documents(documents: Sequence[bytes], fraction: float = 0.1) -> tuple[Documents, Documents]:
    """(training, validation) documents, both in their old order; validation has at most `fraction` of the bytes.

    A document larger than the whole share stays in training; if all are, the smallest one is held out.
    Raises ValueError unless there are at least two different documents and 0 < fraction < 1.
    """
    sizes = _check(documents, fraction)
    by_digest = sorted(sizes, key=content_digest)
    share = fraction * sum(sizes.values())
    held_out: set[bytes] = set()
    room = share
    for document in by_digest:
        if room < 0.1 * share:
            break
        if sizes[document] <= room:
            held_out.add(document)
            room -= sizes[document]
    if not held_out:
        held_out.add(min(by_digest, key=lambda document: sizes[document]))
    training = tuple(document for document in documents if document not in held_out)
    return training, tuple(document for document in documents if document in held_out)


def split_tail(documents: Sequence[bytes], fraction: float = 0.1) -> tuple[Documents, Documents]:
    """(training, validation): the last documents, about `fraction` of the bytes and at least one, are held out.

    A held-out document that also stands earlier leaves the training side, so the two never overlap.
    """
    total = sum(_check(documents, fraction).values())
    start, size = len(documents), 0
    while start > 1 and size < fraction * total:
        start -= 1
        size += len(documents[start])
    validation = tuple(documents[start:])
    held_out = set(validation)
    training = tuple(document for document in documents[:start] if document not in held_out)
    if not training:
        raise ValueError("the last document is a copy of all the others: nothing would be left to train on")
    return training, validation


def _check(documents: Sequence[bytes], fraction: float) -> dict[bytes, int]:
    """The bytes that each different content takes in all, copies included."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1 (the part of the bytes held out), got {fraction}")
    sizes: dict[bytes, int] = {}
    for document in documents:
        sizes[document] = sizes.get(document, 0) + len(document)
    if len(sizes) < 2:
        raise ValueError(
            f"documents must hold at least 2 different ones to hold some out, got {len(sizes)}; add text to the corpus"
        )
    return sizes

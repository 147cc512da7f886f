"""Holding out, so that the loss is also measured on what was never trained on.

The split is by content, over all that a run reads: what occurs twice, in one source or in two, is on one side everywhere
(copies of training text in the validation set make a model look better than it is: Lee et al. 2022, "Deduplicating
Training Data Makes Language Models Better", section 6). Two texts are copies if they differ in nothing but spaces, line
ends and capitals. Contents are walked in the order of their sha256 and held out while they fit into their share: the
choice looks random, is the same on every machine, and moves little when some are added.

    split_sources    a corpus: documents of several sources, a share of the bytes of each
    hold_out         conversations, compared answers, labelled texts: a number of them, another choice for each seed
    shared_text      how much of what was held out is trained on all the same, in other documents
    split_tail       the end of each source instead, as nanoGPT does for a single text: the last tenth of a novel, say
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from tinyllm.data.text.documents import canonical, content_digest

Documents = tuple[bytes, ...]
Split = tuple[dict[str, Documents], dict[str, Documents]]  # training and validation documents by source name
Item = TypeVar("Item")


def split_sources(sources: Mapping[str, Sequence[bytes]], fraction: float = 0.1) -> Split:
    """(training, validation) documents by source, in their old order; validation has at most `fraction` of a source's bytes.

    A document larger than the whole share stays in training; if all of a source are, its smallest one is held out.
    Raises ValueError unless 0 < fraction < 1 and each source has a document to train on and one to hold out.
    """
    keys = _keys(sources)
    sizes = _sizes(sources, keys, fraction)
    first: dict[bytes, bytes] = {}  # the order of the walk: of copies, the smallest digest counts
    for document, key in keys.items():
        digest = content_digest(document)
        first[key] = min(first.get(key, digest), digest)
    shares = {name: fraction * sum(map(len, documents)) for name, documents in sources.items()}
    held_out = _choose(sizes, sorted(sizes, key=first.__getitem__), shares, spare=0.1)
    return _divided(sources, keys, held_out)


def split_documents(documents: Sequence[bytes], fraction: float = 0.1) -> tuple[Documents, Documents]:
    """(training, validation) of a single source; see `split_sources`."""
    training, validation = split_sources({"": documents}, fraction)
    return training[""], validation[""]


def split_tail(sources: Mapping[str, Sequence[bytes]], fraction: float = 0.1) -> Split:
    """(training, validation): the last documents of each source, about `fraction` of its bytes, at least one, are held out.

    A copy of a held-out document, earlier in the source or in another one, leaves the training side. ValueError as
    `split_sources`.
    """
    keys = _keys(sources)
    _sizes(sources, keys, fraction)
    starts = {name: _start_of_tail(documents, fraction) for name, documents in sources.items()}
    tails = {name: tuple(documents[starts[name] :]) for name, documents in sources.items()}
    held_out = {keys[document] for tail in tails.values() for document in tail}
    heads = {name: documents[: starts[name]] for name, documents in sources.items()}
    training, _ = _divided(heads, keys, held_out)
    for name, documents in training.items():
        if not documents:
            raise ValueError(f"{_of(name)}all that comes before the held-out documents is a copy of them: nothing would be left")
    return training, tails


def shared_text(training: Mapping[str, Documents], validation: Mapping[str, Documents]) -> float:
    """The part of the held-out text, from 0 to 1, whose lines stand in training documents too: a file read twice, say, but cut
    at other places. Lines of fewer than 40 bytes are left out: many a short one is in every text."""
    held_out = [line for documents in validation.values() for document in documents for line in _long_lines(document)]
    wanted, found = set(held_out), set()
    for documents in training.values():
        for document in documents:
            found |= wanted.intersection(document.split(b"\n"))
    return sum(len(line) for line in held_out if line in found) / max(sum(map(len, held_out)), 1)


def _long_lines(document: bytes) -> list[bytes]:
    return [line for line in document.split(b"\n") if len(line) >= 40]


def hold_out(
    items: Sequence[Item], n: int, *, seed: int, content: Callable[[Item], bytes]
) -> tuple[list[Item], list[Item]]:  # fmt: skip
    """(the rest, at most `n` held-out items but at least one), both in their old order, chosen by content and `seed`.

    content  an item's text. Items with equal texts (see `canonical`) are on one side, and so is an item whose text goes on
             where another's ends: a conversation that was saved after each of its turns is one conversation.

    ValueError if all items are copies of one.
    """
    texts = [canonical(content(item)) for item in items]
    roots: dict[bytes, bytes] = {}
    root: bytes | None = None
    for text in sorted(set(texts)):  # what begins with another text stands right behind it
        root = text if root is None or not text.startswith(root) else root
        roots[text] = root
    sizes: dict[bytes, dict[str, int]] = {}
    for text in texts:
        sizes.setdefault(roots[text], {"": 0})[""] += 1
    if len(sizes) < 2:
        expected = "at least two different ones are needed, one to learn from and one to hold out"
        raise ValueError(f"{len(items)} came, all of one content; {expected}" if items else f"none came; {expected}")
    order = sorted(sizes, key=lambda text: hashlib.sha256(b"%d\0" % seed + text).digest())
    held_out = _choose(sizes, order, {"": n}, spare=0)
    sides: tuple[list[Item], list[Item]] = ([], [])
    for item, text in zip(items, texts, strict=True):
        sides[roots[text] in held_out].append(item)
    return sides


def _choose(
    sizes: Mapping[bytes, Mapping[str, int]], order: Sequence[bytes], shares: Mapping[str, float], *, spare: float
) -> set[bytes]:  # fmt: skip
    """The contents to hold out. `sizes`: content -> its size in each source; `spare`: the part of a share that may stay free.

    Of each source at least one content is held out, and at least one is left to train on.
    """
    room = dict(shares)
    left = {name: sum(name in own for own in sizes.values()) for name in shares}
    total, held_out = dict(left), set()

    def take(content: bytes) -> None:
        held_out.add(content)
        for name, size in sizes[content].items():
            room[name] -= size
            left[name] -= 1

    def fits(name: str, size: int) -> bool:
        return left[name] > 1 and size <= room[name] and room[name] >= spare * shares[name]

    for content in order:
        if all(fits(name, size) for name, size in sizes[content].items()):
            take(content)
    for name in shares:
        if left[name] == total[name]:
            possible = [one for one in order if name in sizes[one] and all(left[other] > 1 for other in sizes[one])]
            if not possible:
                raise ValueError(f"{_of(name)}its documents stand in other sources too, which leaves none to hold out; add text")
            take(min(possible, key=lambda one: sizes[one][name]))
    return held_out


def _keys(sources: Mapping[str, Sequence[bytes]]) -> dict[bytes, bytes]:
    """document -> its content in short: equal for copies."""
    return {document: content_digest(canonical(document)) for documents in sources.values() for document in documents}


def _of(name: str) -> str:
    """The source in words, at the beginning of an error."""
    return f"source {name!r}: " if name else ""


def _divided(sources: Mapping[str, Iterable[bytes]], keys: Mapping[bytes, bytes], held_out: set[bytes]) -> Split:
    """(the rest, those whose content is held out) of each source."""
    sides: Split = ({}, {})
    for name, documents in sources.items():
        parts: tuple[list[bytes], list[bytes]] = ([], [])
        for document in documents:
            parts[keys[document] in held_out].append(document)
        for side, part in zip(sides, parts, strict=True):
            side[name] = tuple(part)
    return sides


def _start_of_tail(documents: Sequence[bytes], fraction: float) -> int:
    """The index of the first document of the tail."""
    total, start, size = sum(map(len, documents)), len(documents), 0
    while start > 1 and size < fraction * total:
        start -= 1
        size += len(documents[start])
    return start


def _sizes(sources: Mapping[str, Sequence[bytes]], keys: Mapping[bytes, bytes], fraction: float) -> dict[bytes, dict[str, int]]:
    """content -> source -> the bytes it takes there in all, copies included. ValueError for what cannot be divided."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1 (the part of the bytes held out), got {fraction}")
    sizes: dict[bytes, dict[str, int]] = {}
    for name, documents in sources.items():
        for document in documents:
            own = sizes.setdefault(keys[document], {})
            own[name] = own.get(name, 0) + len(document)
        different = len({keys[document] for document in documents})
        if different < 2:
            found = f"got {different}; add text to the corpus"
            raise ValueError(f"{_of(name)}documents must hold at least 2 different ones to hold some out, {found}")
    return sizes

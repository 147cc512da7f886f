"""A text made ready for a model: ids, and beside each where it came from, what it belongs to, and whether it is looked at.

    [CLS] how are you [SEP] fine [SEP]        a pair of texts in BERT's template (Devlin et al. 2019, section 3)
      0    0   0   0    0    1     1          type ids: which of the two texts
Texts of a batch have one length: longer ones are cut (with a stride the rest becomes further encodings that overlap, so that no
answer is lost at a seam), shorter ones are padded, and the attention mask says which ids are only padding. Names and rules are
those of Hugging Face's `tokenizers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Side = Literal["left", "right"]
Strategy = Literal["longest_first", "only_first", "only_second"]
Span = tuple[int, int]


@dataclass(frozen=True)
class Encoding:
    """Lists of one length. offsets: text[begin:end] in characters; sequence_ids: 0 or 1 for the text, None for what was added."""

    ids: list[int]
    tokens: list[str]
    offsets: list[Span]
    type_ids: list[int]
    sequence_ids: list[int | None]
    special_tokens_mask: list[int]
    attention_mask: list[int]
    overflowing: tuple[Encoding, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> Encoding:
        return Encoding(*(getattr(self, name)[part] for name in _LISTS))

    def __add__(self, other: Encoding) -> Encoding:
        return Encoding(*(getattr(self, name) + getattr(other, name) for name in _LISTS))


_LISTS = ("ids", "tokens", "offsets", "type_ids", "sequence_ids", "special_tokens_mask", "attention_mask")


def in_original(spans: Sequence[tuple[int, int, int]], origins: Sequence[int], place: int) -> list[tuple[int, int, int]]:
    """(id, begin, end) in the text that was given. origins: of each normalized character; place: where that stretch begins."""
    found = []
    for token, begin, end in spans:
        first = place + origins[min(begin, len(origins) - 1)]
        found.append((token, first, place + origins[end - 1] + 1 if begin < end else first))
    return found


def trimmed(written: bytes, begin: int, end: int) -> Span:
    """Offsets without the spaces that a token begins and ends with."""
    begin = min(begin + len(written) - len(written.lstrip(b" ")), end)
    trailing = len(written) - len(written.rstrip(b" "))
    return begin, max(end - trailing, begin) if end >= trailing else end


def plain_encoding(found: list[tuple[int, int, int]], written: list[bytes], *, trim_offsets: bool = False) -> Encoding:
    """What a single text gives, before a template adds to it. found: (id, begin, end); written: how each id is written."""
    ids, n = [token for token, _, _ in found], len(found)
    offsets = [trimmed(written[span[0]], *span[1:]) if trim_offsets else span[1:] for span in found]
    tokens = [written[i].decode("utf-8", "replace") for i in ids]
    return Encoding(ids, tokens, offsets, [0] * n, [0] * n, [0] * n, [1] * n)


@dataclass(frozen=True)
class Truncation:
    """At most `max_length` ids, those of the template included.

    stride    how many ids an overflowing part shares with the one before
    strategy  which of a pair is cut: the longer one first, only the first or only the second
    direction the side where ids are taken away
    """

    max_length: int
    stride: int = 0
    strategy: Strategy = "longest_first"
    direction: Side = "right"

    def __post_init__(self) -> None:
        if self.max_length < 1 or not 0 <= self.stride < self.max_length:
            got = f"max_length {self.max_length} and stride {self.stride}"
            raise ValueError(f"truncation: got {got}, expected a stride from 0 up to below max_length")
        if self.strategy not in ("longest_first", "only_first", "only_second"):
            raise ValueError(f"strategy: got {self.strategy!r}, expected longest_first, only_first or only_second")
        if self.direction not in ("left", "right"):
            raise ValueError(f"direction: got {self.direction!r}, expected left or right")


@dataclass(frozen=True)
class Padding:
    """Up to `length` ids, or as many as the longest of the batch has (None), rounded up to a multiple."""

    length: int | None = None
    id: int = 0
    token: str = "[PAD]"
    type_id: int = 0
    direction: Side = "right"
    multiple_of: int | None = None

    def __post_init__(self) -> None:
        if self.direction not in ("left", "right"):
            raise ValueError(f"direction: got {self.direction!r}, expected left or right")
        if any(number is not None and number < 1 for number in (self.length, self.multiple_of)):
            raise ValueError(f"padding: got length {self.length}, multiple_of {self.multiple_of}; expected at least 1")


@dataclass(frozen=True)
class Part:
    """A place in a template: a text ("A" or "B"), or ids that are put there; `tokens` is how they are written."""

    type_id: int = 0
    text: Literal["A", "B"] | None = None
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    name: str = ""  # of the ids, in files

    @property
    def is_text(self) -> bool:
        """Whether a text stands here."""
        return self.text is not None


TEXT_A, TEXT_B = Part(text="A"), Part(text="B", type_id=1)


@dataclass(frozen=True)
class Template:
    """What is written around a text, and around two."""

    single: tuple[Part, ...] = (TEXT_A,)
    pair: tuple[Part, ...] = (TEXT_A, TEXT_B)

    def __post_init__(self) -> None:
        for name, parts, wanted in (("single", self.single, ["A"]), ("pair", self.pair, ["A", "B"])):
            texts = [part.text for part in parts if part.is_text]
            if sorted(map(str, texts)) != wanted:
                raise ValueError(f"template: {name} has the texts {texts}, expected {' and '.join(wanted)} once")

    def n_added(self, *, pair: bool) -> int:
        """How many ids the template adds."""
        return sum(len(part.ids) for part in (self.pair if pair else self.single))

    def apply(self, texts: Sequence[Encoding]) -> Encoding:
        """One encoding from one or two."""
        whole = plain_encoding([], [])
        for part in self.single if len(texts) == 1 else self.pair:
            if part.text is None:
                n = len(part.ids)
                added = Encoding(
                    list(part.ids), list(part.tokens), [(0, 0)] * n, [part.type_id] * n, [None] * n, [1] * n, [1] * n
                )
            else:
                i = 0 if part.text == "A" else 1
                n = len(texts[i])
                added = replace(texts[i], type_ids=[part.type_id] * n, sequence_ids=[i] * n)
            whole += added
        return whole


NO_TEMPLATE = Template()


def truncate(encoding: Encoding, max_length: int, *, stride: int = 0, direction: Side = "right") -> list[Encoding]:
    """The encoding in parts of at most `max_length` ids, of which the first is kept and the others overflow."""
    n = len(encoding)
    if n <= max_length:
        return [encoding]
    if max_length == 0:
        return [encoding[:0], encoding[:]]
    if stride >= max_length:
        raise ValueError(f"stride: got {stride}, expected below the {max_length} ids that are left for the text")
    step = max_length - stride
    if direction == "right":
        starts = [i for i in range(0, n, step) if i == 0 or i + stride < n]
        return [encoding[i : i + max_length] for i in starts]
    ends = [i for i in range(n, 0, -step) if i == n or i - stride > 0]
    return [encoding[max(0, i - max_length) : i] for i in ends]


def fit(texts: Sequence[Encoding], template: Template, truncation: Truncation) -> Encoding:
    """One or two texts in the template, no longer than the truncation says; what was cut is in `overflowing`."""
    room = truncation.max_length - template.n_added(pair=len(texts) == 2)
    if room < 0:
        raise ValueError(
            f"max_length: got {truncation.max_length}, expected at least the {truncation.max_length - room} ids added"
        )
    lengths = _lengths([len(text) for text in texts], room, truncation.strategy)
    parts = [
        truncate(text, length, stride=truncation.stride, direction=truncation.direction)
        for text, length in zip(texts, lengths, strict=True)
    ]
    first = template.apply([own[0] for own in parts])
    if len(texts) == 1:
        others = [template.apply([rest]) for rest in parts[0][1:]]
    else:  # every part of one text with every part of the other
        pairs = [(a, b) for a in (*parts[0][1:], parts[0][0]) for b in parts[1]]
        others = [template.apply(pair) for pair in pairs if pair != (parts[0][0], parts[1][0])]
    return replace(first, overflowing=tuple(others))


def _lengths(lengths: list[int], room: int, strategy: str) -> list[int]:
    """How many ids each text keeps."""
    over = sum(lengths) - room
    if over <= 0:
        return lengths
    if strategy != "longest_first" or len(lengths) == 1:
        i = 1 if strategy == "only_second" else 0
        if i >= len(lengths) or lengths[i] <= over:
            which = "the second of a pair" if i else "the first text"
            raise ValueError(f"truncation: {over} ids are too many, expected {which} to be longer, or another strategy")
        return [n - over if i == k else n for k, n in enumerate(lengths)]
    short, long = sorted(lengths)
    short, long = (short, room - short) if short <= room // 2 else (room // 2, room - room // 2)
    if lengths[0] == lengths[1]:
        return [room // 2, room - room // 2]
    return [short, long] if lengths[0] < lengths[1] else [long, short]


def pad(encodings: Sequence[Encoding], padding: Padding) -> list[Encoding]:
    """The encodings, none shorter than the padding says; those that overflow too."""
    length = padding.length or max(map(len, encodings), default=0)
    if padding.multiple_of:
        length = -(-length // padding.multiple_of) * padding.multiple_of
    return [_pad(one, padding, length) for one in encodings]


def _pad(encoding: Encoding, padding: Padding, length: int) -> Encoding:
    n = max(0, length - len(encoding))
    filler = Encoding([padding.id] * n, [padding.token] * n, [(0, 0)] * n, [padding.type_id] * n, [None] * n, [1] * n, [0] * n)
    whole = encoding + filler if padding.direction == "right" else filler + encoding
    return replace(whole, overflowing=tuple(_pad(one, padding, length) for one in encoding.overflowing))

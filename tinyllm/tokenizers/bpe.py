"""Byte-pair encoding: start from bytes, join frequent neighbours. The third rung: character -> byte -> BPE.

Training (`bpe_train`) leaves an ordered list of merges. Encoding a piece of text applies them in that order: of all
neighbouring pairs the one learned earliest is joined, leftmost first, until no pair was learned (Sennrich et al. 2016,
"Neural Machine Translation of Rare Words with Subword Units", algorithm 1; on bytes: Radford et al. 2019, section 2.2).
Short pieces search all pairs at every step, O(n²) and simple; long ones (DNA has no spaces) remember where each pair
stands and take the pairs from a heap, near-linear, with the same answer. Words repeat, so answers are remembered. Large texts
go to kernels that do the same some twenty times as fast (`kernels/text/`). OpenAI's files hold no merges but ranks alone: there
any two neighbours that make a token are a pair, and its rank is the token's id. What all this leaves out: nothing is ever
split in the second-best way (see BPE-dropout), and a token is frequent, not meaningful.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyllm import kernels
from tinyllm.tokenizers.added_tokens import AddedToken
from tinyllm.tokenizers.bpe_train import check_min_frequency, learn_from_documents
from tinyllm.tokenizers.characters import to_bytes, to_text
from tinyllm.tokenizers.compiled import LARGE, MIDDLING
from tinyllm.tokenizers.encoding import NO_TEMPLATE, Template
from tinyllm.tokenizers.layout import BYTE_ORDER, bpe_layout, template_layout
from tinyllm.tokenizers.merging import (
    LONG,
    Ranks,
    TokenRanks,
    check_dropout,
    merge_by_heap,
    merge_by_search,
    merge_steps,
    merge_with_dropout,
)  # fmt: skip
from tinyllm.tokenizers.normalizers import FORMS, Form, Normalizer, Unicode
from tinyllm.tokenizers.pretokenize import SplitPattern, as_pattern, settled_length
from tinyllm.tokenizers.special import END_OF_TEXT, add_special_tokens
from tinyllm.tokenizers.tokenizer import Place, Tokenizer
from tinyllm.tokenizers.unicode_classes import character_classes
from tinyllm.tokenizers.word_counts import Progress

if TYPE_CHECKING:
    from tinyllm.kernels.text.byte_pairs import BytePairCoder

FAR_APART = 64  # bytes between two runs that are normalized apart
CACHE_PIECES = 100_000  # remembered pieces, and the longest piece (characters) worth remembering: about 30 MB
CACHE_LENGTH = 64


class _PieceCache(dict[str, list[int]]):
    """piece -> ids, filled on demand; emptied when full, so that memory stays bounded."""

    def __init__(self, encode_piece: Callable[[str], list[int]]):
        super().__init__()
        self._encode_piece = encode_piece

    def __missing__(self, piece: str) -> list[int]:
        ids = self._encode_piece(piece)
        if len(piece) <= CACHE_LENGTH:
            if len(self) >= CACHE_PIECES:
                self.clear()
            self[piece] = ids
        return ids


class BPETokenizer(Tokenizer):
    """Byte-level BPE: lossless on any bytes.

    tokens         the bytes of each id, among them all 256 single bytes; b"" for an id that stands for nothing
    merges         pairs of tokens in the order they were learned; each joined pair must be a token too. None: any two tokens
                   that make a token are a pair, the one with the lowest id first, as in the files of tiktoken
    pattern        how text is cut first: a name of `pretokenize.PATTERNS`, or a pattern of your own
    special_tokens text -> id, ids inside `tokens`
    added_tokens   others that are found in text before all else
    ignore_merges  a piece that is a token becomes it, whatever the merges say (Llama 3)
    normalization  "NFC": text is brought into this Unicode form first (Qwen); decoding gives that form back

    ValueError says what does not fit.
    """

    def __init__(
        self, tokens: list[bytes], merges: list[tuple[bytes, bytes]] | None, *, pattern: str | SplitPattern = "gpt4",
        special_tokens: dict[str, int] | None = None, added_tokens: Iterable[AddedToken] = (), ignore_merges: bool = False,
        normalization: Form | None = None, template: Template = NO_TEMPLATE,
    ):  # fmt: skip
        if normalization not in (None, *FORMS):
            raise ValueError(f"normalization: got {normalization!r}, expected None, 'NFC', 'NFD', 'NFKC' or 'NFKD'")
        normalizer = Normalizer((Unicode(normalization),) if normalization else ())
        super().__init__(tokens, special_tokens or {}, added_tokens=added_tokens, normalizer=normalizer, template=template)
        self.pattern = as_pattern(pattern)
        self.merges, self.ignore_merges, self.normalization = merges, ignore_merges or merges is None, normalization
        special_ids = {token.id for token in self.added_tokens}
        self.ordinary = {token: i for i, token in enumerate(tokens) if i not in special_ids and token}
        if len(self.ordinary) + len(special_ids) + tokens.count(b"") != len(tokens):
            raise ValueError("tokens: two ids stand for the same bytes; each ordinary token must be there once")
        self._byte_ids = [_id_of(bytes([byte]), self.ordinary, "tokens") for byte in range(256)]
        self._pairs = None if merges is None else _pairs_of(merges, self.ordinary)
        self._cache = _PieceCache(self._encode_piece)
        self._coder: BytePairCoder | None = None
        self._n_seen = 0

    @cached_property
    def _ranks(self) -> Ranks:
        """Pairs by id, for pieces that are merged here and not in a kernel."""
        if self._pairs is None:
            return TokenRanks(self.tokens, self.ordinary)
        lefts, rights, joined = (part.tolist() for part in self._pairs)
        return dict(zip(zip(lefts, rights, strict=True), enumerate(joined), strict=True))

    @classmethod
    def train(
        cls, documents: Iterable[str | bytes], *, vocab_size: int, pattern: str | SplitPattern = "gpt4", min_frequency: int = 2,
        special_tokens: Iterable[str] = (END_OF_TEXT,), progress: Progress | None = None, memory_limit: int | None = None,
        processes: int = 1,
    ) -> BPETokenizer:  # fmt: skip
        """Learn a vocabulary of `vocab_size` ids from `documents` (read once, one at a time).

        Ids: the 256 bytes in GPT-2's order, then merged tokens in the order learned, then the special tokens. Special
        tokens found in a document separate its text and are not learned from. Merges stop early when no pair occurs
        `min_frequency` times. `progress(stage, done, total)` is called with stage "count" (documents; total None) and
        "merge" (tokens made). memory_limit: bytes for counts and merges, with the same result; what does not fit goes to
        temporary files. processes: how many cut the text, for a pattern of your own; known ones are cut by kernels on all cores.
        """
        special = [special_tokens] if isinstance(special_tokens, str) else list(special_tokens)
        least = 256 + len(special)
        if vocab_size < least:
            raise ValueError(
                f"vocab_size: got {vocab_size}, expected at least {least}: 256 bytes and {len(special)} special tokens"
            )
        check_min_frequency(min_frequency)  # this and the special tokens before the work, not after it
        Tokenizer(*add_special_tokens([bytes([byte]) for byte in range(256)], special))
        tokens, merges = learn_from_documents(
            documents, as_pattern(pattern), vocab_size - least, min_frequency=min_frequency, special_tokens=special,
            progress=progress, memory_limit=memory_limit, processes=processes,
        )  # fmt: skip
        tokens, special_ids = add_special_tokens(tokens, special)
        return cls(tokens, merges, pattern=pattern, special_tokens=special_ids)

    def smaller(self, vocab_size: int) -> BPETokenizer:
        """What `train` would have made with a smaller `vocab_size`: the first merges alone, then the special tokens.

        ValueError if the vocabulary has not that many tokens, or does not stand in the order of training.
        """
        names, merges = sorted(self.special_tokens, key=self.special_tokens.__getitem__), self.merges or []
        learned = [*(bytes([byte]) for byte in BYTE_ORDER), *(left + right for left, right in merges)]
        if self.tokens != add_special_tokens(learned, names)[0] or len(names) < len(list(self.added_tokens)):
            raise ValueError(
                "smaller: this vocabulary is not 256 bytes, merged tokens and special tokens in the order of training"
            )
        n_merges = vocab_size - 256 - len(names)
        if not 0 <= n_merges <= len(merges):
            raise ValueError(f"vocab_size: got {vocab_size}, expected {256 + len(names)} to {self.vocab_size}")
        tokens, special_ids = add_special_tokens(learned[: 256 + n_merges], names)
        return BPETokenizer(
            tokens, merges[:n_merges], pattern=self.pattern, special_tokens=special_ids, ignore_merges=self.ignore_merges,
            normalization=self.normalization, template=self.template,
        )  # fmt: skip

    def _encode_piece(self, piece: str) -> list[int]:
        """The ids of one piece, merged."""
        data = to_bytes(piece)
        if self.ignore_merges and data in self.ordinary:
            return [self.ordinary[data]]
        symbols = [self._byte_ids[byte] for byte in data]
        merge = merge_by_search if len(symbols) < LONG else merge_by_heap
        return merge(symbols, self._ranks)

    def _encode_ordinary(self, text: str, at: Place = "start") -> list[int]:
        if self._normal_pattern is None and len(text) >= MIDDLING and (coder := self._kernels(len(text))):
            return coder.encode([self._bytes_of(text)])[0].tolist()
        return self._encode_plainly(text, at)

    def _encode_normal(self, text: str, at: Place) -> list[int]:
        return list(chain.from_iterable(map(self._cache.__getitem__, self.pattern.split(text))))

    def _spans(self, text: str, at: Place) -> list[tuple[int, int, int]]:
        found, place = [], 0
        for piece in self.pattern.split(text):
            owners = [place + i for i, character in enumerate(piece) for _ in to_bytes(character)]  # of each byte
            place += len(piece)
            begin = 0
            for token in self._cache[piece]:
                end = begin + len(self.tokens[token])
                found.append((token, owners[begin], owners[end - 1] + 1))
                begin = end
        return found

    def _encode_many(self, texts: list[str | bytes], places: Sequence[Place]) -> list[np.ndarray]:
        size = sum(map(len, texts))
        if self._normal_pattern or size < MIDDLING or not (coder := self._kernels(size)):
            return super()._encode_many(texts, places)
        return coder.encode(list(map(self._bytes_of, texts)))

    def _join(self, ids: np.ndarray) -> bytes:
        return self._coder.decode(ids) if self._coder and len(ids) >= MIDDLING else super()._join(ids)

    def _kernels(self, size: int) -> BytePairCoder | None:
        """What encodes the next `size` characters in machine code; None where that does not pay, or cannot be."""
        self._n_seen += size
        if self._coder is None and self._n_seen >= LARGE and self.pattern.cut and kernels.machine_code():
            from tinyllm.kernels.text.byte_pairs import BytePairCoder

            ordinary = np.sort(np.fromiter(self.ordinary.values(), np.int64, len(self.ordinary)))
            self._coder = BytePairCoder(
                self.tokens, ordinary=ordinary, merges=self._pairs, whole=self.ignore_merges,
                cut=self.pattern.cut, classes=character_classes(),
            )  # fmt: skip
        return self._coder

    def _grow(self, ids: dict[str, int]) -> None:
        self._coder = None  # it knows the bytes of the old tokens alone

    def _bytes_of(self, text: str | bytes) -> bytes:
        """The bytes of a large text, normalized. Only its runs of other characters than ASCII can change, with the one before."""
        data = text if isinstance(text, bytes) else to_bytes(to_text(text))
        wide = np.flatnonzero(np.frombuffer(data, np.uint8) >= 0x80) if self.normalization else np.empty(0, np.int64)
        if not wide.size:
            return data
        gaps = np.flatnonzero(np.diff(wide) > FAR_APART)
        parts, place = [], 0
        for first, last in zip([0, *(gaps + 1).tolist()], [*gaps.tolist(), len(wide) - 1], strict=True):
            begin, end = max(0, int(wide[first]) - 1), int(wide[last]) + 1
            parts += [data[place:begin], to_bytes(self.normalizer(data[begin:end].decode("utf-8", "surrogateescape")))]
            place = end
        return b"".join([*parts, data[place:]])

    def _settled(self, text: str, reserve: int, *, only_lines: bool = False) -> int:
        return settled_length(self.pattern, text, reserve, only_lines=only_lines or self.normalization is not None)

    def sample(self, text: str | bytes, *, rng: np.random.Generator, dropout: float = 0.1) -> list[int]:
        """The ids of `text` by BPE-dropout: each merge is passed over with probability `dropout` (`merging.merge_with_dropout`).

        Trained on these, a model sees a word in many cuts and learns what its parts are. No text becomes a special token.
        """
        check_dropout(dropout)
        ids: list[int] = []
        for piece in self.pattern.split(self.normalizer(to_text(text))):
            symbols = [self._byte_ids[byte] for byte in to_bytes(piece)]
            ids += merge_with_dropout(symbols, self._ranks, dropout=dropout, rng=rng)
        return ids

    def explain(self, text: str | bytes) -> list[list[list[bytes]]]:
        """How `text` is encoded: for each piece the list of steps, each step the piece's tokens (bytes) at that time."""
        explained = []
        for piece in self.pattern.split(self.normalizer(to_text(text))):
            symbols = [self._byte_ids[byte] for byte in to_bytes(piece)]
            explained.append([[self.tokens[i] for i in step] for step in merge_steps(symbols, self._ranks)])
        return explained

    def to_json(self) -> dict[str, Any]:
        """A BPE model with a byte-level pre-tokenizer; see `layout`."""
        splits = () if self.pattern.name == "gpt2" else self.pattern.steps or (self.pattern.published,)
        return bpe_layout(
            self.tokens, self.written_merges(), added_tokens=self.added_tokens, splits=splits,
            ignore_merges=self.ignore_merges, normalization=self.normalization,
            post_processor=template_layout(self.template, trim_offsets=self.trim_offsets),
        )  # fmt: skip

    def written_merges(self) -> list[tuple[bytes, bytes]]:
        """The merges; for a file of ranks all pairs that make a token, those of lower ids first."""
        if self.merges is not None:
            return self.merges
        found = []
        for token, joined in self.ordinary.items():
            parts = ((token[:i], token[i:]) for i in range(1, len(token)))
            known = [(self.ordinary[a], self.ordinary[b]) for a, b in parts if a in self.ordinary and b in self.ordinary]
            found += [(joined, pair) for pair in sorted(known)]
        return [(self.tokens[left], self.tokens[right]) for _, (left, right) in sorted(found)]


def _pairs_of(merges: list[tuple[bytes, bytes]], ids: dict[bytes, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lefts, rights, joined), each (n,) int32, of the merges in order; ValueError names the first that has no id."""
    try:
        pairs = [(ids[left], ids[right], ids[left + right]) for left, right in merges]
    except KeyError:
        for rank, (left, right) in enumerate(merges):
            for token in (left, right, left + right):
                _id_of(token, ids, f"merges[{rank}]")
        raise
    lefts, rights, joined = np.array(pairs, np.int32).reshape(-1, 3).T.copy()
    return lefts, rights, joined


def _id_of(token: bytes, ids: dict[bytes, int], where: str) -> int:
    """The id of `token`; ValueError naming `where` if the vocabulary lacks it."""
    try:
        return ids[token]
    except KeyError:
        raise ValueError(f"{where}: {token!r} is not in the vocabulary") from None

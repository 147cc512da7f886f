"""WordPiece: each word is cut into the longest pieces that the vocabulary has, from left to right. BERT and its family.

    unaffable  ->  un | ##aff | ##able            ## : goes on a word

Text is normalized, cut at white space, and each punctuation character is a word of its own (Devlin et al. 2019, the released
`BasicTokenizer`). Then the longest piece that begins the word is taken, and the same again for the rest. If at some place
nothing fits, the whole word becomes [UNK], however much of it was known: nothing falls back to letters or bytes.
`wordpiece_train` says where the pieces come from. What it leaves out: where spaces were and how words were written is lost, and
the longest piece first is not always the best cut (see `unigram`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import regex

from tinyllm.tokenizers.added_tokens import AddedToken
from tinyllm.tokenizers.bpe_train import check_min_frequency
from tinyllm.tokenizers.compiled import CompiledWords
from tinyllm.tokenizers.encoding import NO_TEMPLATE, Template
from tinyllm.tokenizers.layout import file_layout, template_layout
from tinyllm.tokenizers.normalizers import BERT, Normalizer, normalizer_layout
from tinyllm.tokenizers.tokenizer import Place, Tokenizer
from tinyllm.tokenizers.unicode_classes import classes_of
from tinyllm.tokenizers.word_counts import Progress
from tinyllm.tokenizers.wordpiece_train import MOST_CHARACTERS, SPECIAL_TOKENS, learn_pieces, read_words

if TYPE_CHECKING:
    from tinyllm.kernels.text.pieces import WordCoder

Rule = Literal["likelihood", "frequency"]
PREFIX, UNKNOWN, LONGEST_WORD = "##", "[UNK]", 100
CACHE_WORDS = 100_000
PUNCTUATION = r"\p{P}$+<=>^`|~"  # ASCII's symbols count too
_WORD = regex.compile(rf"[{PUNCTUATION}]|[^\s{PUNCTUATION}]++")
# What the released code takes back of the spaces between words, in a token with the space before it.
_CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@cache
def word_classes() -> np.ndarray:
    """(0x110000,) uint8: 1 for a punctuation character, 2 for white space."""
    return classes_of({1: f"[{PUNCTUATION}]", 2: r"\s"})


class WordPieceTokenizer(Tokenizer):
    """Greedy longest match.

    pieces        distinct texts in the order of their ids, those inside a word with `prefix`; None for an id without a token
    unknown       the piece that stands for a word that cannot be cut
    longest_word  characters; a longer word is unknown
    clean_up      whether decoding takes back the space before a comma and the like
    """

    def __init__(
        self, pieces: list[str | None], *, normalizer: Normalizer = BERT, unknown: str = UNKNOWN,
        prefix: str = PREFIX, longest_word: int = LONGEST_WORD, clean_up: bool = True,
        special_tokens: dict[str, int] | None = None, added_tokens: Iterable[AddedToken] = (), template: Template = NO_TEMPLATE,
    ):  # fmt: skip
        tokens = [(piece or "").encode() for piece in pieces]
        super().__init__(tokens, special_tokens or {}, added_tokens=added_tokens, normalizer=normalizer, template=template)
        self.ids = {piece: i for i, piece in enumerate(pieces) if piece is not None}
        if len(self.ids) + pieces.count(None) != len(pieces):
            raise ValueError("pieces: one stands there twice; each must have one id")
        if unknown not in self.ids:
            raise ValueError(f"unknown: {unknown!r} is not among the pieces")
        if longest_word < 1:
            raise ValueError(f"longest_word: got {longest_word}, expected at least 1")
        self.unknown, self.prefix, self.longest_word, self.clean_up = unknown, prefix, longest_word, clean_up
        self._longest = max(map(len, self.ids))
        self.leading_spaces = 1
        self._spoken = [self._said(piece or "") for piece in pieces]
        for token in self.added_tokens:
            if token.normalized:  # it was found in normalized text, so that is what it says
                self._spoken[token.id] = self._said(normalizer(token.content))
        self._compiled = CompiledWords(self._coder)
        self._cache: dict[str, list[tuple[int, int]]] = {}

    @classmethod
    def train(
        cls, documents: Iterable[str | bytes], *, vocab_size: int, rule: Rule = "likelihood", normalizer: Normalizer = BERT,
        min_frequency: int = 2, special_tokens: Iterable[str] = SPECIAL_TOKENS, most_characters: int = MOST_CHARACTERS,
        progress: Progress | None = None, memory_limit: int | None = None,
    ) -> WordPieceTokenizer:  # fmt: skip
        """Learn pieces from `documents`: by "likelihood", as the papers say, or by "frequency", which is BPE with ##.

        Ids: the special tokens, of which [UNK] is one; the `most_characters` most frequent characters in the order of their
        codes; those that go on a word; the merged pieces in the order learned. min_frequency: how often a pair must occur;
        at 1, the likeliest are the rarest. memory_limit: bytes for counting words; the rows of the distinct words, from which
        is learned, come on top. Others: see `BPETokenizer.train`.
        """
        special = [special_tokens] if isinstance(special_tokens, str) else list(special_tokens)
        if rule not in get_args(Rule):
            raise ValueError(f"rule: got {rule!r}, expected {' or '.join(map(repr, get_args(Rule)))}")
        if UNKNOWN not in special:
            raise ValueError(f"special_tokens: got {special}, expected {UNKNOWN!r} among them")
        check_min_frequency(min_frequency)
        words = read_words(
            documents,
            normalizer,
            _WORD.findall,
            classes=word_classes,
            special_tokens=special,
            progress=progress,
            memory_limit=memory_limit,
        )
        learned = learn_pieces(
            words, n_pieces=vocab_size - len(special), prefix=PREFIX, by_likelihood=rule == "likelihood",
            min_frequency=min_frequency, most_characters=most_characters, progress=progress,
        )  # fmt: skip
        pieces: list[str | None] = [*special, *(piece for piece in learned if piece not in special)]
        return cls(pieces, normalizer=normalizer, special_tokens={text: i for i, text in enumerate(special)})

    def _said(self, piece: str) -> bytes:
        """What a piece adds to a text."""
        if self.prefix and piece.startswith(self.prefix):
            return piece.removeprefix(self.prefix).encode()
        said = f" {piece}" if piece else ""
        for old, new in _CLEANED if self.clean_up else ():
            said = said.replace(old, new)
        return said.encode()

    def _spans(self, text: str, at: Place) -> list[tuple[int, int, int]]:
        found = []
        for match in _WORD.finditer(text):
            place = match.start()
            for token, n in self._word(match.group()):
                found.append((token, place, place + n))
                place += n
        return found

    def _encode_normal(self, text: str, at: Place) -> list[int]:
        return [token for word in _WORD.findall(text) for token, _ in self._word(word)]

    def _word(self, word: str) -> list[tuple[int, int]]:
        """`cut_word`, remembered."""
        known = self._cache.get(word)
        if known is None:
            known = self.cut_word(word)
            if len(self._cache) >= CACHE_WORDS:
                self._cache.clear()
            self._cache[word] = known
        return known

    def _grow(self, ids: dict[str, int]) -> None:
        self.ids = {**self.ids, **ids}

    def _coder(self) -> WordCoder:
        """The kernels that do what `cut_word` does."""
        from tinyllm.kernels.text.pieces import GREEDY, WordCoder

        prefix = self.prefix.encode()
        goes_on = [piece.removeprefix(prefix) if piece.startswith(prefix) else b"" for piece in self.tokens]
        return WordCoder(
            GREEDY, self.tokens, goes_on, unknown=self.ids[self.unknown], most=self.longest_word, classes=word_classes(),
        )  # fmt: skip

    def cut_word(self, word: str) -> list[tuple[int, int]]:
        """(id, characters) of each piece of a word: the longest that fits, and on from there."""
        unknown = [(self.ids[self.unknown], len(word))]
        if len(word) > self.longest_word:
            return unknown
        found: list[tuple[int, int]] = []
        begin = 0
        while begin < len(word):
            prefix = self.prefix if begin else ""
            for end in range(min(len(word), begin + self._longest), begin, -1):
                token = self.ids.get(prefix + word[begin:end])
                if token is not None:
                    break
            else:
                return unknown
            found.append((token, end - begin))
            begin = end
        return found

    def to_json(self) -> dict[str, Any]:
        """A WordPiece model; see `layout`."""
        model = {
            "type": "WordPiece", "unk_token": self.unknown, "continuing_subword_prefix": self.prefix,
            "max_input_chars_per_word": self.longest_word, "vocab": self.ids,
        }  # fmt: skip
        return file_layout(
            self.added_tokens, normalizer=normalizer_layout(self.normalizer), pre_tokenizer={"type": "BertPreTokenizer"},
            post_processor=template_layout(self.template), model=model,
            decoder={"type": "WordPiece", "prefix": self.prefix, "cleanup": self.clean_up},
        )  # fmt: skip

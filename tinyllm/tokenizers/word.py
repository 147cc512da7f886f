"""One token a word: what Word2Vec and the first translation models were trained on. Every other word is unknown.

A word is a run of letters, digits and underscores, or a run of other signs. The most frequent words of a text get an id, the most
frequent first; by Zipf's law a few thousand of them cover most of it. What it leaves out: a word that was not seen is [UNK],
"dog" and "dogs" share nothing, and a large vocabulary is mostly rare words about which little can be learned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import regex

from tinyllm.tokenizers.added_tokens import AddedToken
from tinyllm.tokenizers.characters import to_text
from tinyllm.tokenizers.encoding import NO_TEMPLATE, Template
from tinyllm.tokenizers.layout import file_layout, template_layout
from tinyllm.tokenizers.normalizers import UNCHANGED, Normalizer, normalizer_layout
from tinyllm.tokenizers.special import END_OF_TEXT
from tinyllm.tokenizers.tokenizer import Place, Tokenizer

UNKNOWN = "[UNK]"
CUTS = {"words": regex.compile(r"\w+|[^\w\s]+"), "spaces": regex.compile(r"\S+")}


class WordTokenizer(Tokenizer):
    """Ids in the order of `words`, of which `unknown` is one.

    cut  "words": letters apart from other signs; "spaces": white space alone separates words
    """

    def __init__(
        self, words: list[str | None], *, unknown: str = UNKNOWN, cut: str = "words", normalizer: Normalizer = UNCHANGED,
        special_tokens: dict[str, int] | None = None, added_tokens: Iterable[AddedToken] = (), template: Template = NO_TEMPLATE,
    ):  # fmt: skip
        tokens = [(word or "").encode() for word in words]
        super().__init__(tokens, special_tokens or {}, added_tokens=added_tokens, normalizer=normalizer, template=template)
        if cut not in CUTS:
            raise ValueError(f"cut: got {cut!r}, expected {' or '.join(map(repr, CUTS))}")
        self.ids = {word: i for i, word in enumerate(words) if word is not None}
        if len(self.ids) + words.count(None) != len(words):
            raise ValueError("words: one stands there twice; each must have one id")
        if unknown not in self.ids:
            raise ValueError(f"unknown: {unknown!r} is not among the words")
        self.unknown, self.cut = unknown, cut
        self.leading_spaces = 1
        self._spoken = [b" " + token if token else b"" for token in tokens]

    @classmethod
    def train(
        cls, documents: Iterable[str | bytes], *, vocab_size: int, min_frequency: int = 1, cut: str = "words",
        normalizer: Normalizer = UNCHANGED, special_tokens: Iterable[str] = (END_OF_TEXT,),
        progress: Callable[[str, int, int | None], None] | None = None,
    ) -> WordTokenizer:  # fmt: skip
        """The tokenizer of the most frequent words: [UNK], the special tokens, then words; of equally frequent ones A first."""
        if isinstance(documents, str | bytes):
            raise ValueError("documents: got one text, expected an iterable of texts; put it in a list")
        if cut not in CUTS:
            raise ValueError(f"cut: got {cut!r}, expected {' or '.join(map(repr, CUTS))}")
        special = [special_tokens] if isinstance(special_tokens, str) else list(special_tokens)
        first = list(dict.fromkeys([UNKNOWN, *special]))
        if vocab_size < len(first) or min_frequency < 1:
            raise ValueError(
                f"vocab_size: got {vocab_size}, expected at least {len(first)}; min_frequency: {min_frequency}, at least 1"
            )
        counts: Counter[str] = Counter()
        for done, document in enumerate(documents, start=1):
            counts.update(CUTS[cut].findall(normalizer(to_text(document))))
            if progress:
                progress("count", done, None)
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        words = [
            w for w in ordered if counts[w] >= min_frequency and w not in first and not any("\ud800" <= c <= "\udfff" for c in w)
        ]
        texts = [*first, *words[: vocab_size - len(first)]]
        return cls(list(texts), cut=cut, normalizer=normalizer, special_tokens={text: i for i, text in enumerate(first)})

    def _spans(self, text: str, at: Place) -> list[tuple[int, int, int]]:
        unknown = self.ids[self.unknown]
        return [(self.ids.get(m.group(), unknown), m.start(), m.end()) for m in CUTS[self.cut].finditer(text)]

    def _grow(self, ids: dict[str, int]) -> None:
        self.ids = {**self.ids, **ids}

    def to_json(self) -> dict[str, Any]:
        """A WordLevel model; see `layout`."""
        model = {"type": "WordLevel", "vocab": self.ids, "unk_token": self.unknown}
        cut = {"type": "Whitespace" if self.cut == "words" else "WhitespaceSplit"}
        return file_layout(
            self.added_tokens, normalizer=normalizer_layout(self.normalizer), pre_tokenizer=cut,
            post_processor=template_layout(self.template), decoder=None, model=model,
        )  # fmt: skip

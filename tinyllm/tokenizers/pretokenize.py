"""Pre-tokenization: cut text into word-like pieces before byte-pair encoding sees it.

Merges never cross a cut, so "dog." and "dog!" share the token "dog", and the encoder can remember one answer a word.
Three published patterns: GPT-2's (Radford et al. 2019, section 2.2); GPT-4's cl100k_base, which also keeps numbers in
groups of three, letters with one leading symbol, and line breaks with the punctuation before them; and Qwen2's, which is
GPT-4's with every digit alone, so that 999 + 1 is a matter of columns and not of a thousand tokens that look unrelated.
Each pattern is kept twice. `published` is the plain spelling that files carry. `linear` accepts exactly the same pieces,
but its quantifiers are possessive (`++`: what was taken is never given back), so that a million times "^" costs linear
time and no stack. The letter and number classes follow the Unicode version of the `regex` package.
"""

from dataclasses import dataclass, field

import regex

LOOKAHEAD = 3  # no pattern here looks further than this past the end of a piece (the "ll" of "'ll" is the longest)


@dataclass(frozen=True)
class SplitPattern:
    """A way to cut text: every character falls into exactly one piece.

    `published`: the spelling written to tokenizer.json. `linear`: the same language without backtracking.
    `aliases`: other spellings of the same language found in files.
    """

    name: str
    published: str
    linear: str
    aliases: tuple[str, ...] = ()
    compiled: regex.Pattern = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compiled", regex.compile(self.linear))

    def split(self, text: str) -> list[str]:
        """The pieces of `text` in order; joined they give `text` back."""
        return self.compiled.findall(text)


_GPT2 = SplitPattern(
    name="gpt2",
    published=r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    linear=r" ?\p{L}++|'(?:[stmd]|re|ve|ll)| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++\Z|\s+(?!\S)|\s",
    aliases=(
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    ),
)

_GPT4 = SplitPattern(
    name="gpt4",
    published=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    linear=r"'(?i:[stmd]|re|ve|ll)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s*[\r\n]|\s++\Z|\s+(?!\S)|\s",
    aliases=(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
        r"|\s+(?!\S)|\s+",
    ),
)

_QWEN2 = SplitPattern(
    name="qwen2",
    published=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    linear=r"'(?i:[stmd]|re|ve|ll)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s*[\r\n]|\s++\Z|\s+(?!\S)|\s",
    aliases=(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",),
)

PATTERNS: dict[str, SplitPattern] = {pattern.name: pattern for pattern in (_GPT2, _GPT4, _QWEN2)}


def get_pattern(name: str) -> SplitPattern:
    """The pattern called `name` ("gpt2", "gpt4" or "qwen2"); ValueError for another name."""
    try:
        return PATTERNS[name]
    except (KeyError, TypeError):
        known = ", ".join(repr(known) for known in PATTERNS)
        raise ValueError(f"pattern: got {name!r}, expected one of {known}") from None


def pattern_from_regex(text: str) -> SplitPattern | None:
    """The known pattern that `text` spells, or None. Unknown expressions are not run: a file must not choose our regex."""
    for pattern in PATTERNS.values():
        if text in (pattern.published, pattern.linear, *pattern.aliases):
            return pattern
    return None

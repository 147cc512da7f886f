"""Pre-tokenization: cut text into word-like pieces before byte-pair encoding sees it.

Merges never cross a cut, so "dog." and "dog!" share the token "dog", and the encoder can remember one answer a word.
The published patterns: GPT-2's (Radford et al. 2019, section 2.2); GPT-4's cl100k_base (Llama 3 has it too), which also
keeps numbers in groups of three, letters with one leading symbol, and line breaks with the punctuation before them;
GPT-4o's o200k_base, which cuts where capitals begin and leaves 've and the like with their word; Qwen2's, which is GPT-4's with
every digit alone, so that 999 + 1 is a matter of columns and not of a thousand tokens that look unrelated; SmolLM's, which
is GPT-2's with every digit alone; and DeepSeek's, which takes out numbers and Chinese first.
Each pattern is kept twice. `published` is the plain spelling that files carry. `linear` accepts exactly the same pieces,
but its quantifiers are possessive (`++`: what was taken is never given back), so that a million times "^" costs linear
time and no stack. `cut` says the same to the kernels, which look at each byte once. The letter and number classes follow the
Unicode version of the `regex` package.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import regex

from tinyllm.kernels.text.patterns import ALONE_LOWER, SUFFIX, Cut

OWN = "own"  # the name of any pattern that is not published
LOOKAHEAD = 3  # no pattern here looks further than this past the end of a piece (the "ll" of "'ll" is the longest)


@dataclass(frozen=True)
class SplitPattern:
    """A way to cut text: every character falls into exactly one piece.

    `published`: the spelling written to tokenizer.json. `linear`: the same language without backtracking.
    `aliases`: other spellings of the same language found in files. `steps`: the expressions of files that cut several times,
    each what the one before left. `cut`: the same for the kernels; None if they cannot.
    """

    name: str
    published: str
    linear: str
    aliases: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    cut: Cut | None = None
    compiled: regex.Pattern = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compiled", regex.compile(self.linear))

    def split(self, text: str) -> list[str]:
        """The pieces of `text` in order; joined they give `text` back. ValueError for a pattern of your own that loses some."""
        pieces = self.compiled.findall(text)
        if self.name == OWN and sum(map(len, pieces)) != len(text):  # it matched nothing somewhere, and went on behind it
            raise ValueError(f"pattern: {self.published!r} matches the empty text, so it loses text; make it match something")
        return pieces


_GPT2 = SplitPattern(
    name="gpt2",
    published=r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    linear=r" ?\p{L}++|'(?:[stmd]|re|ve|ll)| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++\Z|\s+(?!\S)|\s",
    aliases=(
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    ),
    cut=Cut(ALONE_LOWER, any_prefix=0, digits=0, line_ends=0),
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
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
        r"|\s+(?!\S)|\s",
    ),
    cut=Cut(),
)

_CAPITAL, _SMALL, _ENDING = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT4O = SplitPattern(
    name="gpt4o",
    published=rf"[^\r\n\p{{L}}\p{{N}}]?{_CAPITAL}*{_SMALL}+{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?{_CAPITAL}+{_SMALL}*{_ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    linear=rf"[^\r\n\p{{L}}\p{{N}}]?{_CAPITAL}*{_SMALL}++{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?{_CAPITAL}++{_ENDING}"
    r"|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n/]*+|\s*[\r\n]|\s++\Z|\s+(?!\S)|\s",
    cut=Cut(SUFFIX, cased=1, slashes=1),
)

_QWEN2 = SplitPattern(
    name="qwen2",
    published=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    linear=r"'(?i:[stmd]|re|ve|ll)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s*[\r\n]|\s++\Z|\s+(?!\S)|\s",
    aliases=(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",),
    cut=Cut(digits=1),
)

_SMOLLM = SplitPattern(
    name="smollm",
    published=r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+",
    linear=r" ?\p{L}++|'(?:[stmd]|re|ve|ll)|\p{N}| ?[^\s\p{L}\p{N}]++|\s++\Z|\s++(?=\p{N})|\s+(?!\S)|\s",
    cut=Cut(ALONE_LOWER, any_prefix=0, digits=1, line_ends=0, digit_ends=1),
)

_KANJI = r"\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF"
_IN_KANJI, _OUTSIDE = rf"[[{_KANJI}]&&[\p{{L}}\p{{M}}]]", rf"[\p{{L}}\p{{M}}--[{_KANJI}]]"
_IN_TURN = (  # what the three expressions of `steps` do, one after the other
    rf"(?V1)\p{{N}}{{1,3}}+|[[{_KANJI}]--[\p{{L}}\p{{P}}\p{{S}}]]?{_IN_KANJI}++|[[{_KANJI}]&&[\p{{P}}\p{{S}}]]++"
    rf"|(?:[[{_KANJI}]--[\p{{L}}\p{{M}}\p{{P}}\p{{S}}]](?!{_IN_KANJI}))++"
    rf"|[!-/:-@\[-`{{-~][A-Za-z]++|[^\r\n\p{{L}}\p{{P}}\p{{S}}\p{{N}}{_KANJI}]?{_OUTSIDE}++"
    rf"| ?[\p{{P}}\p{{S}}--[{_KANJI}]]++[\r\n]*+|\s*[\r\n]|\s++(?=[\p{{N}}{_KANJI}]|\Z)|\s+(?!\S)|\s"
    rf"|(?:[^\s\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{_KANJI}](?!{_OUTSIDE}))++"
)
_DEEPSEEK = SplitPattern(
    name="deepseek",
    published=_IN_TURN,
    linear=_IN_TURN,
    steps=(
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
        "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    ),
)

PATTERNS: dict[str, SplitPattern] = {pattern.name: pattern for pattern in (_GPT2, _GPT4, _GPT4O, _QWEN2, _SMOLLM, _DEEPSEEK)}


def get_pattern(name: str) -> SplitPattern:
    """The pattern called `name`, a key of PATTERNS; ValueError for another name."""
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


def pattern_of_steps(texts: Sequence[str]) -> SplitPattern | None:
    """The known pattern that these expressions make, one after the other; None if none does."""
    return next((pattern for pattern in PATTERNS.values() if pattern.steps and pattern.steps == tuple(texts)), None)


def as_pattern(pattern: str | SplitPattern) -> SplitPattern:
    """A pattern by its name, or itself."""
    return pattern if isinstance(pattern, SplitPattern) else get_pattern(pattern)


def own_pattern(expression: str) -> SplitPattern:
    """A pattern of your own, in the language of `regex`: its matches are the pieces, and what lies between them is a piece too.

    ValueError for an expression that `regex` does not take. Your own expression may take long on hostile text; ours do not.
    """
    try:
        groups = regex.compile(expression).groups
    except regex.error as error:
        raise ValueError(f"pattern: got {expression!r}, expected a regular expression: {error}") from None
    if groups:
        raise ValueError(f"pattern: got {expression!r}, expected no groups that capture; write (?:...) for (...)")
    if known := pattern_from_regex(expression):
        return known
    return SplitPattern(OWN, expression, rf"(?:{expression})|(?:(?!{expression})[\s\S])+")


def settled_length(pattern: SplitPattern, text: str, reserve: int, *, only_lines: bool = False) -> int:
    """How many characters of `text` are cut alike whatever follows; at least `reserve` are left.

    A line that begins with a letter begins a piece, by every known pattern. only_lines: look at nothing else, since text will
    be normalized, which never joins such a letter to what stands before it.
    """
    settled = min(len(text.rstrip()), len(text) - LOOKAHEAD - reserve)  # a run of spaces waits for what ends it
    if settled <= 0:
        return 0
    line = line_start(text, settled) if pattern.cut else 0
    if line or only_lines:
        return line
    pieces = pattern.split(text)
    length = len(text)
    while pieces and length > settled:
        length -= len(pieces.pop())
    return length if pieces else 0


def line_start(text: str, most: int) -> int:
    """The last place up to `most` where a line begins with a letter; 0 if there is none."""
    found = _LINE_START.search(text, 0, most + 1)
    return found.end() - 1 if found else 0


# Read from the end. Hangul's vowels and final consonants are letters that join the one before them.
_LINE_START = regex.compile(r"\n[\p{L}--[\u1160-\u11FF\uD7B0-\uD7FF]]", regex.VERSION1 | regex.REVERSE)

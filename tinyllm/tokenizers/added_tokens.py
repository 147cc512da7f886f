"""Tokens beside the vocabulary, found in a text before anything else is done with it: control tokens, tags, fixed strings.

A special one means something to the model (a text ends, a turn begins), so text that somebody typed must never yield it: it is
found only if it is allowed by name. The others (Qwen's <tool_call>, Gemma's runs of line ends) are found always. Where
several would match, the one that begins first wins, then the longest. A token may take the white space before or behind it
(`lstrip`, `rstrip`), or count only as a word of its own (`single_word`), as Hugging Face's files say.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class AddedToken:
    """A text and its id. `normalized`, of one that any text may spell: it is looked for after the text was normalized."""

    content: str
    id: int
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False

    def expression(self) -> str:
        """What it looks like in a text."""
        before, after = r"\s*" if self.lstrip else "", r"\s*" if self.rstrip else ""
        content = rf"(?<!\w){re.escape(self.content)}(?!\w)" if self.single_word else re.escape(self.content)
        return f"{before}{content}{after}"


def either(texts: Iterable[str]) -> re.Pattern[str]:
    """An expression for any of these texts, the longest first."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=lambda text: (-len(text), text)))))


class AddedTokens:
    """All of a tokenizer's. `plain`: those that any text may spell; `look_around`: whether what stands beside one matters."""

    def __init__(self, tokens: Iterable[AddedToken]):
        self.by_content = {token.content: token for token in tokens}
        self.plain = frozenset(t.content for t in self if not t.special and not t.normalized)
        self.look_around = any(token.lstrip or token.rstrip or token.single_word for token in self)
        self._patterns: dict[frozenset[str], re.Pattern[str]] = {}

    def __iter__(self) -> Iterator[AddedToken]:
        return iter(self.by_content.values())

    def pattern(self, names: Collection[str]) -> re.Pattern[str] | None:
        """An expression for these tokens and the plain ones; None if there are none at all."""
        wanted = self.plain | frozenset(names)
        if not wanted:
            return None
        if wanted not in self._patterns:
            ordered = sorted(wanted, key=lambda name: (-len(name), name))
            self._patterns[wanted] = re.compile("|".join(self.by_content[name].expression() for name in ordered))
        return self._patterns[wanted]

    def settled_length(self, text: str, pattern: re.Pattern[str] | None, settled: Callable[..., int]) -> int:
        """How much of the beginning of `text` no text to come can change. pattern: the tokens that are looked for.

        settled(text, reserve): the same of ordinary text, leaving so many characters, in which a token may have begun.
        """
        longest = max(map(len, self.by_content), default=0) if pattern else 0
        if pattern and self.look_around:  # where a line begins with a letter there is nothing to look for
            done = settled(text, longest, only_lines=True)
            return 0 if any(match.start() < done < match.end() for match in pattern.finditer(text)) else done
        begin = 0
        for match in pattern.finditer(text) if pattern else ():
            if match.start() + longest > len(text):  # a longer token may still grow here
                break
            begin = match.end()
        return begin + settled(text[begin:], longest)

    def id_of(self, match: str) -> int:
        """The id of what a pattern found: a token, with white space around it if it takes that."""
        token = self.by_content.get(match)
        if token is None:
            near = (t for t in self.by_content.values() if (t.lstrip or t.rstrip) and t.content in match)
            token = max(near, key=lambda t: len(t.content))
        return token.id


def cut_out(pattern: re.Pattern[str], text: str) -> list[str]:
    """`text` in parts: ordinary, special, ordinary, ... , ordinary; ordinary ones may be empty."""
    parts: list[str] = []
    start = 0
    for match in pattern.finditer(text):
        parts += [text[start : match.start()], match.group()]
        start = match.end()
    return [*parts, text[start:]]

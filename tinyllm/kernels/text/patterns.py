"""What tells one pattern that text is cut by from another, in seven numbers, and the classes of characters that it speaks of.

No compiler is needed to say it: the tokenizers, which keep the patterns as regular expressions, say it here.
"""

from typing import NamedTuple

LETTER, NUMBER, SPACE, NEWLINE, UPPER, LOWER = 1, 2, 4, 8, 16, 32  # UPPER, LOWER: what GPT-4o's words are made of

ALONE_LOWER, ALONE, SUFFIX = 0, 1, 2  # contractions: pieces of their own, in lower case or in any; or the end of a word


class Cut(NamedTuple):
    """A pattern of the family in `cuts`."""

    contractions: int = ALONE
    any_prefix: int = 1  # 1: any one character but a line end, letter or digit may begin a word; 0: a blank, and numbers too
    digits: int = 3  # at most so many in a piece; 0: any number
    cased: int = 0  # 1: a word is capitals, then small letters; marks belong to words
    line_ends: int = 1  # 1: symbols take the line ends behind them, white space ends after its last line end
    slashes: int = 0  # 1: and slashes among these line ends
    digit_ends: int = 0  # 1: white space before a digit is one piece

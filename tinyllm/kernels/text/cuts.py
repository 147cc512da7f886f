"""Where a piece of text ends, found without a regular expression: one look at each character, for every known pattern.

The published patterns (`tokenizers/pretokenize.py` keeps them, and is the definition) are a family. A piece is a
contraction ('ll), a word, a number, a run of symbols or a run of white space; they differ in what may stand before a word,
how long a number may be, and who takes line ends. Those differences are the fields of `patterns.Cut`; which alternative
matches is told by the first character or two, so hardly anything is ever tried and given up.
"""

from tinyllm.kernels.jit import inlined
from tinyllm.kernels.text.characters import END, WIDTH, ascii_letters, byte_at, character, run_end
from tinyllm.kernels.text.patterns import ALONE, LETTER, LOWER, NEWLINE, NUMBER, SPACE, SUFFIX, UPPER

NOT_SYMBOL = LETTER | NUMBER | SPACE | END
APOSTROPHE, BLANK, SLASH = 0x27, 0x20, 0x2F


@inlined
def contraction_end(text, i, any_case):
    """The end of 's, 't, 'm, 'd, 're, 've or 'll at i; i if there is none. ſ (U+017F) is an s in any case."""
    if byte_at(text, i) != APOSTROPHE:
        return i
    first, second = byte_at(text, i + 1), byte_at(text, i + 2)
    if any_case:
        if first == 0xC5 and second == 0xBF:
            return i + 3
        first, second = first | 0x20, second | 0x20
    if first == 0x73 or first == 0x74 or first == 0x6D or first == 0x64:
        return i + 2
    if (first == 0x72 or first == 0x76) and second == 0x65 or first == 0x6C and second == 0x6C:
        return i + 3
    return i


@inlined
def letters_end(text, i, n, classes):
    """The end of a run of letters."""
    while True:
        count = ascii_letters(text, i)
        i += count
        if count == 8:
            continue
        here = byte_at(text, i)
        if here < 0x80:
            return i
        wide = character(text, i, n, classes)
        if not wide & LETTER:
            return i
        i += wide >> WIDTH


@inlined
def cased_word_end(text, start, n, classes):
    """(end, whether it is U*W+) of U*W+, else of U+, from `start` on; the end is -1 if neither begins there.

    U: UPPER, W: LOWER; some characters are both. U* takes all it can; if no W follows, it gives back up to its last W.
    """
    i, last_both = start, -1
    while True:
        here = character(text, i, n, classes)
        if not here & UPPER:
            break
        i += here >> WIDTH
        if here & LOWER:
            last_both = i
    if here & LOWER:
        return run_end(text, i, n, classes, LOWER), True
    if last_both >= 0:
        return last_both, True
    return (i, False) if i > start else (-1, False)


@inlined
def cased_piece_end(text, i, here, n, classes):
    """A word of GPT-4o's pattern at i, with the contraction behind it; -1 if there is none.

    Four tries in turn: U*W+ behind the character at i, U*W+ with it, then U+ behind it, U+ with it.
    """
    end, lower, own_end, own_lower = -1, False, -1, False
    if not here & (LETTER | NUMBER | NEWLINE):
        end, lower = cased_word_end(text, i + (here >> WIDTH), n, classes)
    if not lower and here & (UPPER | LOWER):
        own_end, own_lower = cased_word_end(text, i, n, classes)
    if own_lower or end < 0:
        end = own_end
    return contraction_end(text, end, True) if end >= 0 else -1


@inlined
def numbers_end(text, i, n, classes, most):
    """The end of at most `most` digits; 0: of all."""
    count = 0
    while True:
        here = character(text, i, n, classes)
        if not here & NUMBER or (most > 0 and count == most):
            return i
        i += here >> WIDTH
        count += 1


@inlined
def symbols_end(text, i, n, classes, cut):
    """The end of a run of symbols, with the line ends behind it if the pattern says so."""
    while True:
        here = character(text, i, n, classes)
        if here & NOT_SYMBOL:
            break
        i += here >> WIDTH
    if cut.line_ends:
        while True:
            here = byte_at(text, i)
            if not (here == 0x0A or here == 0x0D or (cut.slashes and here == SLASH)):
                break
            i += 1
    return i


@inlined
def space_end(text, i, n, classes, cut):
    """The end of white space: after its last line end; else before its last character, which goes with what follows."""
    begin, last, line_end = i, i, -1
    while True:
        here = character(text, i, n, classes)
        if not here & SPACE:
            break
        last = i
        i += here >> WIDTH
        if here & NEWLINE:
            line_end = i
    if cut.line_ends and line_end >= 0:
        return line_end
    if here & END or last == begin or (cut.digit_ends and here & NUMBER):
        return i
    return last


@inlined
def piece_end(text, i, n, classes, cut):
    """Where the piece that begins at i < n ends."""
    here = character(text, i, n, classes)
    if cut.cased:
        end = cased_piece_end(text, i, here, n, classes)
        if end >= 0:
            return end
    elif here & LETTER:
        return letters_end(text, i, n, classes)
    if here & NUMBER:
        return numbers_end(text, i, n, classes, cut.digits)
    if cut.contractions != SUFFIX:
        end = contraction_end(text, i, cut.contractions == ALONE)
        if end > i:
            return end
    after, blank = i + (here >> WIDTH), byte_at(text, i) == BLANK
    follows = character(text, after, n, classes)
    if follows & LETTER and not cut.cased and (blank or (cut.any_prefix and not here & NEWLINE)):
        return letters_end(text, after, n, classes)
    if blank and follows & NUMBER and cut.digits == 0:
        return numbers_end(text, after, n, classes, 0)
    if not here & SPACE:
        return symbols_end(text, i, n, classes, cut)
    if blank and not follows & NOT_SYMBOL:
        return symbols_end(text, after, n, classes, cut)
    return space_end(text, i, n, classes, cut)

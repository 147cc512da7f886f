"""Words without their spaces, each punctuation character by itself: how BERT's texts are cut before any piece is looked for."""

import re

from tinyllm.kernels.jit import inlined
from tinyllm.kernels.text.characters import END, WIDTH, character

PUNCTUATION, SPACE = 1, 2  # classes of characters
WORD_SEAM = re.compile(rb"(?<=[A-Za-z0-9])(?= [A-Za-z])")  # where a word ends, by every scheme of words


@inlined
def greedy_word_end(text, i, n, classes):
    """The end of the word at i, or minus the place behind white space: a punctuation character, or a run of other characters."""
    here = character(text, i, n, classes)
    after = i + (here >> WIDTH)
    if here & SPACE:
        return -after
    if not here & PUNCTUATION:
        here = character(text, after, n, classes)
        while not here & (PUNCTUATION | SPACE | END):
            after += here >> WIDTH
            here = character(text, after, n, classes)
    return after

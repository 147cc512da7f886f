"""Decoding while tokens arrive: text is shown as soon as it is certain, and no character is ever shown broken.

A token may end inside a character (an emoji is four bytes, which may be four tokens). Decoding each token alone would
print U+FFFD for every part; here the bytes of an unfinished character wait for the rest. What is fed and flushed, joined,
equals `decode` of all ids at once. Python's incremental UTF-8 decoder holds the state: at most three bytes.
"""

import codecs

from tinyllm.tokenizers.characters import without_leading
from tinyllm.tokenizers.tokenizer import Tokenizer


class StreamDecoder:
    """Turns ids into text one at a time: text = decoder.feed(id) ..., and decoder.flush() at the end."""

    def __init__(self, tokenizer: Tokenizer, errors: str = "replace"):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)
        self._spaces = tokenizer.leading_spaces  # that may still be dropped

    def feed(self, token_id: int) -> str:
        """The text that is certain now; "" while a character is unfinished. ValueError for an unknown id."""
        token = self._tokenizer.token_bytes(token_id)
        rest = without_leading(token, self._spaces)
        self._spaces = 0 if rest else self._spaces - (len(token) - len(rest))
        return self._decoder.decode(rest)

    def flush(self) -> str:
        """What was held back (an unfinished character, by `errors`); afterwards the decoder can be used afresh."""
        self._spaces = self._tokenizer.leading_spaces
        return self._decoder.decode(b"", True)

"""Text to numbers and back. Read in this order: `tokenizer` (the contract), `character`, `byte`, then `pretokenize`,
`bpe_train` and `bpe`: each docstring says what it leaves out and the next one adds it. `stream` decodes tokens as they
arrive; `layout` and `formats` are the files on disk.
"""

from tinyllm.tokenizers.bpe import BPETokenizer
from tinyllm.tokenizers.byte import ByteTokenizer
from tinyllm.tokenizers.character import CharacterTokenizer
from tinyllm.tokenizers.formats import load_tokenizer
from tinyllm.tokenizers.pretokenize import PATTERNS, SplitPattern
from tinyllm.tokenizers.stream import StreamDecoder
from tinyllm.tokenizers.tokenizer import END_OF_TEXT, Tokenizer

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "END_OF_TEXT",
    "PATTERNS",
    "SplitPattern",
    "StreamDecoder",
    "Tokenizer",
    "load_tokenizer",
]

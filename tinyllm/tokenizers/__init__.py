"""Text to numbers and back. Read in this order: `tokenizer` (the contract), `character`, `byte`, then `pretokenize`,
`bpe_train` and `bpe`: each docstring says what it leaves out and the next one adds it. `stream` decodes tokens as they
arrive; `special` says which tokens end a text; `chat` writes conversations; `layout` and `formats` are the files on disk.
"""

from tinyllm.tokenizers.bpe import BPETokenizer
from tinyllm.tokenizers.byte import ByteTokenizer
from tinyllm.tokenizers.character import CharacterTokenizer
from tinyllm.tokenizers.chat import ChatFormat, PlainChatFormat, chat_format
from tinyllm.tokenizers.formats import load_tokenizer
from tinyllm.tokenizers.pretokenize import PATTERNS, SplitPattern
from tinyllm.tokenizers.special import CONTROL_TOKENS, END_OF_TEXT
from tinyllm.tokenizers.stream import StreamDecoder
from tinyllm.tokenizers.tokenizer import Tokenizer

__all__ = [
    "CONTROL_TOKENS", "END_OF_TEXT", "PATTERNS", "BPETokenizer", "ByteTokenizer", "CharacterTokenizer", "ChatFormat",
    "PlainChatFormat", "SplitPattern", "StreamDecoder", "Tokenizer", "chat_format", "load_tokenizer",
]  # fmt: skip

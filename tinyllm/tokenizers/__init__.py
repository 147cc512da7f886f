"""Text to numbers and back. Read in this order: `tokenizer` (the contract), `character`, `byte`, `word`, then `pretokenize`,
`bpe_train` and `bpe`: each docstring says what it leaves out and the next one adds it. Then the other schemes: `wordpiece`
(BERT), `sentencepiece` with `sentencepiece_bpe` (Llama 2, Gemma) and `unigram` (T5). `normalizers` and `charsmap` are what is
done to a text before, `encoding` what is made of its ids for a model: offsets, templates, padding. `stream` decodes tokens as
they arrive; `special` says which tokens end a text; `chat` writes conversations; `layout` and `formats` are the files on disk.
"""

from tinyllm.tokenizers.bpe import BPETokenizer
from tinyllm.tokenizers.byte import ByteTokenizer
from tinyllm.tokenizers.character import CharacterTokenizer
from tinyllm.tokenizers.chat import ChatFormat, PlainChatFormat
from tinyllm.tokenizers.chat_templates import TEMPLATES, ChatTemplate, TemplateChatFormat, chat_format
from tinyllm.tokenizers.encoding import Encoding, Padding, Template, Truncation
from tinyllm.tokenizers.formats import load_tokenizer
from tinyllm.tokenizers.pretokenize import PATTERNS, SplitPattern
from tinyllm.tokenizers.sentencepiece_bpe import SentencePieceBPETokenizer
from tinyllm.tokenizers.special import CONTROL_TOKENS, END_OF_TEXT
from tinyllm.tokenizers.stream import StreamDecoder
from tinyllm.tokenizers.tokenizer import Tokenizer
from tinyllm.tokenizers.unigram import UnigramTokenizer
from tinyllm.tokenizers.word import WordTokenizer
from tinyllm.tokenizers.wordpiece import WordPieceTokenizer

__all__ = [
    "CONTROL_TOKENS", "END_OF_TEXT", "PATTERNS", "TEMPLATES", "BPETokenizer", "ByteTokenizer", "CharacterTokenizer", "ChatFormat",
    "ChatTemplate", "Encoding", "Padding", "PlainChatFormat", "SentencePieceBPETokenizer", "SplitPattern", "StreamDecoder",
    "Template", "TemplateChatFormat", "Tokenizer", "Truncation", "UnigramTokenizer", "WordPieceTokenizer", "WordTokenizer",
    "chat_format", "load_tokenizer",
]  # fmt: skip

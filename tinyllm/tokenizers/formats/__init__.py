"""Tokenizer files of other libraries, checked part by part: what we do not have is refused by name.

`huggingface`: tokenizer.json, which is also the format our own tokenizers are written in; `tiktoken`: OpenAI's ranks;
`sentencepiece`: its model files; `vocab_txt`: BERT's list of pieces.
"""

from tinyllm.tokenizers.formats.huggingface import load_tokenizer

__all__ = ["load_tokenizer"]

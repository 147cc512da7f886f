"""Reading tokenizer.json, the file Hugging Face's `tokenizers` writes: every part is looked at, none is skipped in silence.

A file is a pipeline: added_tokens -> normalizer -> pre_tokenizer -> model -> post_processor -> decoder. `pipeline` reads what
stands around the model, `byte_level`, `marked` (SentencePiece's two models) and `words` the model with the cuts and the decoder
that go with it. Parts are judged by what they do: one that leaves the ids as they are is read (an empty sequence, an unknown
token that no text can reach), one that would change them in a way that is not known here is refused by name, for a tokenizer
that is almost right ruins a model without a word. Trap: {"Split": {"pattern": {"String": p}}} is a literal text, {"Regex": p} an
expression; mixing them up has broken tokenizers. Older folders hold vocab.json and merges.txt, or BERT's vocab.txt, instead.
"""

import os
from pathlib import Path
from typing import Any

from tinyllm.storage import FormatError, strict_json
from tinyllm.storage.strict_json import MapOf
from tinyllm.tokenizers.formats.byte_level import is_byte_level, read_byte_level
from tinyllm.tokenizers.formats.marked import read_marked_bpe, read_unigram
from tinyllm.tokenizers.formats.parsed import File, kind_of, read_lines
from tinyllm.tokenizers.formats.pipeline import read_padding, read_truncation
from tinyllm.tokenizers.formats.sentencepiece import read_sentencepiece
from tinyllm.tokenizers.formats.vocab_txt import read_vocab_txt
from tinyllm.tokenizers.formats.words import read_word_level, read_wordpiece
from tinyllm.tokenizers.pretokenize import SplitPattern
from tinyllm.tokenizers.sentencepiece import SentencePieceTokenizer
from tinyllm.tokenizers.special import END_OF_TEXT, named_tokens, other_program
from tinyllm.tokenizers.tokenizer import Tokenizer


def load_tokenizer(path: str | os.PathLike[str], *, pattern: SplitPattern | None = None) -> Tokenizer:
    """The tokenizer in a tokenizer.json, or in the folder that holds one. The file's content decides its class.

    A folder without it may hold vocab.json and merges.txt, GPT-2's own two files, or a SentencePiece model (tokenizer.model or
    spiece.model), or BERT's vocab.txt; the last two can be given by name too. What tokenizer_config.json says of the
    tokens that begin and end a text is known to the tokenizer (`special`). `pattern`: one of your own that the file may cut by
    (`pretokenize.own_pattern`), since no expression that only a file knows is run. FormatError (a ValueError) names file, field,
    what was expected and found; OSError if there is no such file.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if other := _other_file(path):
        return _with_named(other, folder)
    if path.is_dir() and not (path / "tokenizer.json").is_file():
        file = File(path / "vocab.json", _two_files(path))
    else:
        path = path / "tokenizer.json" if path.is_dir() else path
        file = File(path, strict_json.read(path, schema=MapOf(object)), pattern)
    tokenizer = _read(file)
    return _with_named(tokenizer, folder) if path.is_dir() or path.name == "tokenizer.json" else tokenizer


def _read(file: File) -> Tokenizer:
    """The tokenizer of a parsed file. What kind of model it is comes first: it is the reason behind all other differences."""
    model = file.content["model"]
    kind = kind_of(model) if model.get("type") else "BPE" if "merges" in model else None
    if kind not in _READERS:
        raise file.error("model.type", " or ".join(map(repr, _READERS)), kind)
    read = read_byte_level if kind == "BPE" and is_byte_level(file) else _READERS[kind]
    tokenizer = read(file)
    tokenizer.truncation, tokenizer.padding = read_truncation(file), read_padding(file)
    return tokenizer


_READERS = {"BPE": read_marked_bpe, "Unigram": read_unigram, "WordPiece": read_wordpiece, "WordLevel": read_word_level}


def _with_named(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """The tokenizer, knowing the tokens that the settings beside it name. A name that it has no token for says nothing."""
    names = named_tokens(folder, marks_spaces=isinstance(tokenizer, SentencePieceTokenizer))
    ids = {token: i for i, token in reversed(list(enumerate(tokenizer.tokens)))} if names else {}
    begin, end = (ids.get(names.get(key, "").encode("utf-8", "replace")) for key in ("bos_token", "eos_token"))
    tokenizer = tokenizer.with_said_ids(bos_id=begin, stop_ids=[] if end is None else [end]) if names else tokenizer
    if program := other_program(folder):
        tokenizer.chat_program = program[1]
    return tokenizer


def _other_file(path: Path) -> Tokenizer | None:
    """The tokenizer of a SentencePiece model or a vocab.txt; None where there is something else."""
    if path.is_dir():
        if any((path / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            return None
        path = next((path / name for name in (*_MODELS, "vocab.txt") if (path / name).is_file()), path)
    if path.suffix == ".model":
        return read_sentencepiece(path)
    return read_vocab_txt(path) if path.name.endswith("vocab.txt") else None


_MODELS = ("tokenizer.model", "spiece.model")


def _two_files(folder: Path) -> dict[str, Any]:
    """vocab.json and merges.txt as the tokenizer.json that says the same: GPT-2's cut, nothing before and nothing after it."""
    paths = vocab_path, merges_path = folder / "vocab.json", folder / "merges.txt"
    if not all(path.is_file() for path in paths):
        others = [name for name in ("vocab.json", "merges.txt", "tokenizer.model", "vocab.txt") if (folder / name).is_file()]
        found = f"only {', '.join(others)}, from which no tokenizer can be read here" if others else "none of them"
        raise FileNotFoundError(f"{folder}: expected tokenizer.json, or vocab.json and merges.txt; found {found}")
    vocab = strict_json.read(vocab_path, schema=MapOf(int))
    added_path = folder / "added_tokens.json"
    added = strict_json.read(added_path, schema=MapOf(int)) if added_path.is_file() else {}
    named = {text for text in (END_OF_TEXT, *named_tokens(folder).values()) if text in vocab}
    special = {**added, **{text: vocab[text] for text in sorted(named, key=vocab.__getitem__)}}
    return {
        "added_tokens": [{"id": i, "content": text, "special": True} for text, i in special.items()],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "model": {"type": "BPE", "vocab": vocab, "merges": _merge_lines(merges_path)},
    }


def _merge_lines(path: Path) -> list[str]:
    """The lines of a merges.txt, "a b" each, without the first one ("#version: 0.2") and empty ones."""
    lines = read_lines(path, "merges")
    lines = lines[lines[0].startswith("#version") :]
    for number, line in enumerate(lines, start=1):
        if line and len(line.split(" ")) != 2:
            raise FormatError(path, field=f"merge {number}", expected="two tokens with a space between", found=line)
    return [line for line in lines if line]

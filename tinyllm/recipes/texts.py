"""From named sources to token files: what a model learns from, and what is held out of it.

read_texts(config)                       -> Texts         documents per source, training and validation apart
make_tokenizer(texts, config)            -> tokenizer     trained on the training documents, or loaded
encode_texts(texts, tokenizer, folder)                    token files
open_tokens(folder, tokenizer)           -> Tokens        mixture and validation ids, mapped from those files
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.data import (
    Mixture,
    Source,
    mix,
    open_shard,
    read_corpus,
    shared_text,
    split_sources,
    split_tail,
    verify,
    write_shard,
)
from tinyllm.models import load_tokenizer_for
from tinyllm.storage import strict_json, write_file
from tinyllm.storage.explain import nearest
from tinyllm.storage.fields import check_choice, check_number, check_whole
from tinyllm.tokenizers import END_OF_TEXT, BPETokenizer, ByteTokenizer, CharacterTokenizer, Tokenizer, load_tokenizer
from tinyllm.training import find_tokenizer

TOKENIZERS = ("bpe", "byte", "character")
SPLITS = ("documents", "tail")
_SOURCES_SCHEMA = [{"name": str, "file": str, "n_bytes": int, "weight": (float, None)}]


@dataclass(frozen=True)
class DataConfig:
    """What text to learn from, and how it becomes tokens. ValueError names the field that does not make sense."""

    data: tuple[str, ...] = ("python",)  # python, a file, folder, "pattern" or URL; as NAME=WHERE:WEIGHT for a weighted mixture
    tokenizer: str = "bpe"  # bpe, byte, character, or the folder of a tokenizer, a model or a run
    vocab_size: int = 2048  # tokens that bpe learns, the 256 bytes and the end-of-text token included
    split: str = "documents"  # held out for validation: documents chosen by their hash, or the tail of each source
    validation_fraction: float = 0.1  # part of the bytes that is held out
    max_bytes: int | None = None  # use at most this much of each source

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data names nothing to read; give 'python', a file, a folder, a pattern or a URL")
        if self.tokenizer not in TOKENIZERS:
            _check_tokenizer(self.tokenizer)
        if self.tokenizer == "bpe" and self.vocab_size < 257:
            raise ValueError(f"vocab_size is {self.vocab_size}; bpe needs at least 257: all bytes and the end-of-text token")
        check_choice(self, "split", SPLITS)
        check_number(self, "validation_fraction", above=0, below=1)
        check_whole(self, "max_bytes", low=1, optional=True)
        for spec in self.data:
            parse_data(spec)


def _check_tokenizer(given: str) -> None:
    """ValueError unless `given` leads to a tokenizer.json."""
    try:
        find_tokenizer(given)
    except ValueError as error:
        near = nearest(given, TOKENIZERS)
        reason = f"did you mean {near}?" if near else str(error).removeprefix("tokenizer: ")
        raise ValueError(f"tokenizer is {given!r}; expected {', '.join(TOKENIZERS)}, or a folder with one: {reason}") from None


@dataclass(frozen=True)
class Texts:
    """Documents by source name. `weights`: by name, None if each source weighs its size. `skipped`, `notes`: one line each."""

    training: dict[str, tuple[bytes, ...]]
    validation: dict[str, tuple[bytes, ...]]
    weights: dict[str, float] | None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Size of all documents, in bytes."""
        return sum(len(text) for part in (self.training, self.validation) for texts in part.values() for text in texts)


@dataclass(frozen=True)
class Tokens:
    """What training reads: the mixture of training ids, and the held-out ids (n_tokens,)."""

    mixture: Mixture
    validation: np.ndarray


def parse_data(spec: str) -> tuple[str | None, str, float | None]:
    """ "NAME=WHERE:WEIGHT" -> (name, where, weight); name and weight may be left out. ValueError for a bad weight."""
    if Path(spec).exists():  # a file may itself be called a=b:2
        return None, spec, None
    name, where, weight = None, spec, None
    if named := re.fullmatch(r"([\w.-]+)=(.+)", where):
        name, where = named[1], named[2]
    weighed = re.fullmatch(r"(.+):(\d+\.?\d*|\.\d+)", where)
    if weighed and not re.fullmatch(r"https?://[^/]*", weighed[1]):  # http://host:8000 has a port, not a weight
        where, weight = weighed[1], float(weighed[2])
        if weight <= 0:
            raise ValueError(f"data {spec!r} has weight {weighed[2]}; expected a number above 0, or leave the source out")
    return name, where, weight


def read_texts(config: DataConfig, *, progress: Callable[[int, int | None], None] | None = None) -> Texts:
    """All documents that `config.data` names. `progress`: of downloads. ValueError for what cannot be read or divided."""
    sources: dict[str, Source] = {}
    weights: dict[str, float | None] = {}
    marks = (END_OF_TEXT,) if config.tokenizer in TOKENIZERS else end_of_text_marks(load_named_tokenizer(config.tokenizer))
    for name, where, weight in map(parse_data, config.data):
        found = read_corpus(where, max_bytes=config.max_bytes, progress=progress, end_of_text=marks)
        for source in found:
            title = _unused_name(_named(source.name, name, len(found)), sources)
            sources[title] = source
            share = source.n_bytes / sum(other.n_bytes for other in found)
            weights[title] = None if weight is None else weight * share
    if len({weight is None for weight in weights.values()}) > 1:
        without = next(name for name, weight in weights.items() if weight is None)
        raise ValueError(f"data: source {without!r} has no weight, but others have; give each one (WHERE:WEIGHT), or none")
    divide = split_sources if config.split == "documents" else split_tail
    documents = {title: source.documents for title, source in sources.items()}
    training, validation = divide(documents, config.validation_fraction)
    given = {name: weight for name, weight in weights.items() if weight is not None}
    skipped = tuple(line for source in sources.values() for line in source.skipped)
    notes = [*_notes(sources, marks)]
    if (shared := shared_text(training, validation)) > 0.05:
        notes.append(f"{shared:.0%} of the held-out text stands in training documents too: its loss will look better than it is")
    return Texts(training, validation, given or None, skipped, tuple(notes))


def end_of_text_marks(tokenizer: Tokenizer) -> tuple[str, ...]:
    """What a text may have between its documents: the usual mark, and that of this tokenizer."""
    own = [] if tokenizer.eos_id is None else [name for name, i in tokenizer.special_tokens.items() if i == tokenizer.eos_id]
    return tuple(dict.fromkeys([END_OF_TEXT, *own]))


def _notes(sources: Mapping[str, Source], marks: Sequence[str]) -> Iterator[str]:
    """What should be known of the sources, a line each."""
    for title, source in sources.items():
        if source.n_marks:
            s = "s" * (source.n_marks != 1)
            yield f"{title}: cut into documents at {source.n_marks:,} end-of-text mark{s} ({' or '.join(marks)})"
        yield from source.notes


def _named(own: str, given: str | None, n_sources: int) -> str:
    """The name of a source that was given one; several from one place keep their own names behind it."""
    return own if given is None else given if n_sources == 1 else f"{given}-{own}"


def _unused_name(name: str, taken: Mapping[str, Any]) -> str:
    """`name`, or name-2, name-3 and so on."""
    numbered = (name if i == 1 else f"{name}-{i}" for i in range(1, len(taken) + 2))
    return next(candidate for candidate in numbered if candidate not in taken)


def make_tokenizer(
    texts: Texts, config: DataConfig, *, progress: Callable[[str, int, int | None], None] | None = None
) -> Tokenizer:
    """The tokenizer that `config` names. It learns from training documents only: held-out text stays unseen."""
    documents = (text for part in texts.training.values() for text in part)
    if config.tokenizer == "bpe":
        return BPETokenizer.train(documents, vocab_size=config.vocab_size, progress=progress)
    if config.tokenizer == "character":
        return CharacterTokenizer.train(documents)
    return ByteTokenizer() if config.tokenizer == "byte" else load_named_tokenizer(config.tokenizer)


def load_named_tokenizer(given: str) -> Tokenizer:
    """The tokenizer of a model or a run, which is one with its weights, or the one in a tokenizer's folder."""
    place = find_tokenizer(given)
    return load_tokenizer_for(place) if (place / "config.json").is_file() else load_tokenizer(place)


def encode_texts(texts: Texts, tokenizer: Tokenizer, folder: Path, *, progress: Callable[[int], None] | None = None) -> None:
    """Write token files and sources.json, the list of them, into `folder`. `progress`: documents done."""
    folder.mkdir(parents=True, exist_ok=True)
    listed, done = [], 0

    def report(count: int) -> None:
        if progress:
            progress(done + count)

    for number, (name, documents) in enumerate(texts.training.items(), start=1):
        file = f"train-{number}.bin"
        write_shard(folder / file, documents, tokenizer=tokenizer, progress=report)
        done += len(documents)
        weight = texts.weights[name] if texts.weights else None
        listed.append({"name": name, "file": file, "n_bytes": sum(map(len, documents)), "weight": weight})
    held_out = (text for part in texts.validation.values() for text in part)
    write_shard(folder / "validation.bin", held_out, tokenizer=tokenizer, progress=report)
    write_file(folder / "sources.json", strict_json.dump(listed, indent=1))  # last: with it the folder is complete


def open_tokens(folder: Path, tokenizer: Tokenizer) -> Tokens:
    """The token files in `folder`, mapped. FormatError (a ValueError) if one is damaged or of another tokenizer."""

    def ids_in(file: str) -> np.ndarray:
        shard = open_shard(folder / file, tokenizer=tokenizer)
        verify(shard)  # reads it all once; so does the first checkpoint, which notes a checksum
        return shard.tokens

    listed = strict_json.read(folder / "sources.json", schema=_SOURCES_SCHEMA)
    ids = {one["name"]: ids_in(one["file"]) for one in listed}
    weights = {one["name"]: one["weight"] for one in listed}
    mixture = mix(ids, {one["name"]: one["n_bytes"] for one in listed}, None if None in weights.values() else weights)
    return Tokens(mixture, ids_in("validation.bin"))

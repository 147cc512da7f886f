"""The journey from text to model, as functions: the verbs `train` and `quickstart` are this list with words in between.

    read_texts(data)                         -> Texts         documents per source, training and validation apart
    make_tokenizer(texts, data)              -> tokenizer     trained on the training documents, or loaded
    start_run(out, ...)                      -> RunFolder     locked; removed again if nothing came of it
    encode_texts(texts, tokenizer, folder)   -> None          token files in the run's folder
    open_tokens(folder, tokenizer)           -> Tokens        mixture and validation ids, mapped from those files
    make_model(config, seed=...)             -> GPT           after checking that training it fits into memory
    train_model(model, tokens, ...)          -> records       training, with evaluations, checkpoints and samples
    finish_run(run, model, tokenizer)        -> None          model/ and report.html

Each takes settings dataclasses and gives plain values; what they say goes through a `Progress` or is yielded.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.cli.out_folder import refuse_unwritable
from tinyllm.cli.progress import Progress
from tinyllm.data import (
    EvaluationWindows,
    Mixture,
    MixtureWindows,
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
from tinyllm.models import GPT, GPTConfig, load_tokenizer_for
from tinyllm.pretraining import next_token_loss
from tinyllm.recipes.samples import SampleConfig, SampleRecord, append_sample, drop_samples_from, write_samples
from tinyllm.storage import strict_json, write_file
from tinyllm.storage.names import change_texts, name_from_text
from tinyllm.tokenizers import END_OF_TEXT, BPETokenizer, ByteTokenizer, CharacterTokenizer, Tokenizer, load_tokenizer
from tinyllm.training import (
    EvalRecord,
    RunFolder,
    StepRecord,
    TrainConfig,
    check_memory,
    find_model,
    find_tokenizer,
    holds_work,
    open_run,
    train,
)
from tinyllm.training.streams import stream

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
        if self.split not in SPLITS:
            raise ValueError(f"split is {self.split!r}; expected one of {', '.join(SPLITS)}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction is {self.validation_fraction}; expected a number between 0 and 1")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ValueError(f"max_bytes is {self.max_bytes}; expected at least 1")
        for spec in self.data:
            parse_data(spec)


def _check_tokenizer(given: str) -> None:
    """ValueError unless `given` leads to a tokenizer.json."""
    try:
        find_tokenizer(given)
    except ValueError as error:
        near = strict_json.nearest(given, TOKENIZERS)
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


def make_model(config: GPTConfig, *, seed: int, batch_size: int) -> GPT:
    """A GPT with fresh weights; ValueError, before anything is allocated, if training it would not fit into memory."""
    check_memory(config, batch_size=batch_size)
    return GPT(config, rng=stream(seed, "weights"))


def take_weights(model: GPT, folder: str) -> None:
    """Give `model` the weights of the one that `folder` stands for."""
    model.load_state_dict(GPT.from_pretrained(find_model(folder, name="--init-from")).state_dict())


def saved_settings(folder: Path) -> dict[str, dict[str, Any]]:
    """The settings of the run in `folder`, by group; empty if there is none yet."""
    path = folder / "config.json"
    if not path.exists():
        return {}
    content = strict_json.read(path, schema=strict_json.MapOf(object))
    strict_json.check(content.get("settings"), strict_json.MapOf(strict_json.MapOf(object)), file=path, field="settings")
    return change_texts(content["settings"], name_from_text)


def refuse_used_folder(folder: Path, *, resume: bool) -> None:
    """ValueError if a new run cannot start in `folder`, before any work is done for it."""
    refuse_unwritable(folder)
    if holds_work(folder) and not resume:
        raise ValueError(f"out: {folder} already holds a run; add --resume to go on with it, or choose another name")


PREPARED = ("tokenizer", "data", "mixture.json", "samples.jsonl")  # what a run writes before its first step


@contextlib.contextmanager
def start_run(folder: Path, *, settings: Mapping[str, Any], tokenizer: Tokenizer, resume: bool = False) -> Iterator[RunFolder]:
    """The locked run folder, as `training.open_run`; what a start wrote that fails before its first step is taken away again."""
    before = set(folder.iterdir()) if folder.is_dir() else None  # somebody's .gitkeep, or what an earlier start left
    try:
        with open_run(folder, settings=settings, tokenizer=tokenizer, resume=resume) as run:
            try:
                if not resume:
                    _remove(folder / name for name in PREPARED)  # with other settings, perhaps
                if not (folder / "tokenizer" / "tokenizer.json").exists():
                    tokenizer.save(folder / "tokenizer")
                yield run
            except BaseException:
                _forget_start(folder, before)
                raise
    except OSError:  # in open_run itself: a full disk. Its ValueError would mean that the folder is another process's
        _forget_start(folder, before)
        raise


def _forget_start(folder: Path, before: set[Path] | None) -> None:
    """Remove what came into `folder` since `before` (None: the folder itself did), unless work was done meanwhile."""
    if not holds_work(folder):
        _remove([folder] if before is None else set(folder.iterdir()) - before)


def _remove(paths: Iterable[Path]) -> None:
    """Take files and folders away."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


Record = StepRecord | EvalRecord | SampleRecord


def train_model(
    model: GPT, tokens: Tokens, *, tokenizer: Tokenizer, config: TrainConfig, samples: SampleConfig, run: RunFolder
) -> Iterator[Record]:
    """Train, or go on training, in the run's folder; yields each step, each evaluation, and each sample after it."""
    window = {"batch_size": config.batch_size, "block_size": model.config.block_size}
    mixture = tokens.mixture.rows(config.n_tokens(model.config.block_size))
    write_file(run.path / "mixture.json", strict_json.dump(mixture, indent=1))
    source = MixtureWindows(tokens.mixture, **window, rng=stream(config.seed, "windows of text"))
    n_windows = config.eval_batches * config.batch_size
    try:
        evaluation = list(EvaluationWindows(tokens.validation, **window, max_windows=n_windows))
    except ValueError as error:
        raise ValueError(f"the held-out text is too short: {error}") from None
    first = True
    for record in train(model, source, config=config, loss_fn=next_token_loss, evaluation=evaluation, run=run):
        if first:  # a resumed run forgets the samples of steps it will do again
            drop_samples_from(run.path, record.step)
            first = False
        yield record
        if isinstance(record, EvalRecord):
            for sample in write_samples(model, tokenizer, samples, step=record.step, seed=config.seed):
                append_sample(run.path, sample)
                yield sample


def show_training(records: Iterator[Record], *, progress: Progress) -> EvalRecord | None:
    """Show records on `progress` as they come; the last evaluation, if there was one."""
    last, speed = None, 0.0
    for record in records:
        if isinstance(record, StepRecord):
            speed = 0.9 * speed + 0.1 * record.tokens_per_second if speed else record.tokens_per_second
            facts = {"loss": f"{record.loss:.3f}"} | ({"val": f"{last.val_loss:.3f}"} if last else {})
            progress.show(record.step, **facts, speed=f"{speed:,.0f} tokens/s")
        elif isinstance(record, EvalRecord):
            last = record
            progress.say(f"step {record.step:,}: validation loss {record.val_loss:.3f}")
        else:
            progress.say(record.as_text())
    return last


def finish_run(run: RunFolder, model: Any, tokenizer: Tokenizer) -> None:
    """Write model/, for from_pretrained and `tinyllm generate`, and report.html."""
    from tinyllm.report.run import write_report

    model.save_pretrained(run.path / "model", tokenizer)
    write_report(run.path)

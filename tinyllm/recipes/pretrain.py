"""Pre-training: from text to a model that predicts each next token, and so can go on with a text.

    done = pretrain(PretrainSettings(data=DataConfig(data=("my/texts",))), out="runs/mine")
    done.model, done.tokenizer, done.last         the model, and its last evaluation on text that was held out

Text is read and divided, a tokenizer learned from the training part, all of it encoded once into token files, and a GPT trained
on windows of them. The run's folder then holds model/ and report.html.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.data import EvaluationWindows, MixtureWindows
from tinyllm.models import Model, ModelConfig, architecture_of, load_model, make_model
from tinyllm.pretraining import next_token_loss
from tinyllm.recipes import sizes
from tinyllm.recipes.compile_ahead import ensure_compiled
from tinyllm.recipes.events import Record, Said, Show, counting, silent, watched
from tinyllm.recipes.inputs import Input, note, recall
from tinyllm.recipes.runs import TrainedModel, finish_run, refuse_used_folder, say_longer, start_run
from tinyllm.recipes.samples import SampleConfig, append_sample, check_samples, drop_samples_from, write_samples
from tinyllm.recipes.sizes import as_flag
from tinyllm.recipes.texts import (
    TOKENIZERS,
    DataConfig,
    Texts,
    Tokens,
    encode_texts,
    load_named_tokenizer,
    make_tokenizer,
    open_tokens,
    read_texts,
)
from tinyllm.recipes.tuning import check_finite
from tinyllm.storage import strict_json, write_file
from tinyllm.tokenizers import Tokenizer, load_tokenizer
from tinyllm.training import EvalRecord, RunFolder, TrainConfig, check_memory, find_model, train
from tinyllm.training.streams import stream

INPUTS = (Input("init_from", "--init-from", "model", required=False),)
N_PASSED_OVER = 5  # files named of those that were passed over


@dataclass(frozen=True)
class PretrainSettings:
    """What to read, the shape of the model (its vocab_size is the tokenizer's), how to train, what to write on the way."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default=sizes.GPT_SHAPES[sizes.DEFAULT])
    training: TrainConfig = field(default_factory=TrainConfig)
    samples: SampleConfig = field(default_factory=SampleConfig)


def pretrain(
    settings: PretrainSettings | None = None, *, out: str | Path, init_from: str | None = None, resume: bool = False,
    show: Show = silent,
) -> TrainedModel:  # fmt: skip
    """Train a GPT on text, in the folder `out`, which gets model/ and report.html.

    init_from  go on from the weights of this model (with its shape and tokenizer) instead of random ones
    resume     go on with the run in `out` at its last checkpoint, to the bit
    ValueError, before any work, for settings that make no sense, too large a model, or a folder in use.
    """
    settings, out = settings or PretrainSettings(), Path(os.path.expanduser(out))
    refuse_used_folder(out, resume=resume)
    words = recall(INPUTS, {"init_from": init_from}, out, resume=resume)
    start = str(words["init_from"]) if words["init_from"] else None
    settings = _checked(settings, start)
    tokenizer, texts = _tokenizer_and_texts(settings, out, resume=resume, show=show)
    if start is None:
        settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, vocab_size=tokenizer.vocab_size))
    training = settings.training
    if resume:
        say_longer(out, training, show)
    noted = {
        **vars(settings),
        "architecture": {"name": architecture_of(settings.model)},
        "inputs": note(INPUTS, words, out, resume=resume),
    }
    with start_run(out, settings=noted, tokenizer=tokenizer, resume=resume) as run:
        if texts is not None:
            n_documents = sum(len(part) for side in (texts.training, texts.validation) for part in side.values())
            encode_texts(texts, tokenizer, out / "data", progress=counting(show, "encoding", total=n_documents, unit="documents"))
        tokens = open_tokens(out / "data", tokenizer)
        model = fresh_model(settings.model, seed=training.seed, batch_size=training.batch_size)
        if start is not None:
            model.load_state_dict(load_model(find_model(start, name="--init-from")).state_dict())
        _describe(tokens, model, training, show)
        ensure_compiled(show)
        records = train_model(model, tokens, tokenizer=tokenizer, config=training, samples=settings.samples, run=run)
        last = watched(records, show, label="training", total=training.max_steps)
        finish_run(run, model, tokenizer)
    return TrainedModel(out, model, tokenizer, last)


def fresh_model(config: ModelConfig, *, seed: int, batch_size: int) -> Model:
    """A model with fresh weights; ValueError, before anything is allocated, if training it would not fit into memory."""
    check_memory(make_model(config, rng=None), batch_size=batch_size)
    return make_model(config, rng=stream(seed, "weights"))


def train_model(
    model: Model, tokens: Tokens, *, tokenizer: Tokenizer, config: TrainConfig, samples: SampleConfig, run: RunFolder
) -> Iterator[Record]:
    """Train, or go on training, in the run's folder; yields each step, each evaluation, and each sample after it."""
    block_size = model.config.block_size
    write_file(run.path / "mixture.json", strict_json.dump(tokens.mixture.rows(config.n_tokens(block_size)), indent=1))
    source = MixtureWindows(
        tokens.mixture, batch_size=config.batch_size, block_size=block_size, rng=stream(config.seed, "windows of text")
    )
    try:
        evaluation = list(
            EvaluationWindows(
                tokens.validation, batch_size=config.batch_size, block_size=block_size,
                max_windows=config.eval_batches * config.batch_size,
            )
        )  # fmt: skip
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


def architecture_for(asked: str, *, saved: Mapping[str, Any] | None, init_from: str | None) -> str:
    """Which architecture: that of the run that is resumed (its settings), of the model that is gone on from, or what is asked."""
    if saved is not None:
        return saved.get("architecture", {}).get("name", asked)
    return asked if init_from is None else architecture_of(load_model(find_model(init_from, name="--init-from")).config)


def shape_of(folder: str) -> ModelConfig:
    """The shape of the model that `init_from` names. ValueError for weights that are not finite."""
    found = find_model(folder, name="--init-from")
    model = load_model(found)
    check_finite(model, found)
    return model.config


def refuse_other_shape(folder: str, given: Mapping[str, Mapping[str, Any]], *, size: str | None) -> None:
    """ValueError for a shape or a tokenizer that was asked for, when the weights in `folder` decide them.

    given  the settings by group that were asked for, such as {"model": {"n_layers": 2}}
    """
    config, free = shape_of(folder), ("dropout", "init_std")
    for name, value in given["model"].items():
        if name not in free and value != getattr(config, name):
            where = f"the model in {find_model(folder, name='--init-from')} has {name} {getattr(config, name)}"
            raise ValueError(f"{as_flag(name)} is {value}, but {where}, which its weights decide; leave it out")
    wrong = ["--size"] if size else [as_flag(name) for name in ("tokenizer", "vocab_size") if name in given["data"]]
    if wrong:
        raise ValueError(f"{wrong[0]} came with --init-from, whose model has its own shape and tokenizer; leave one of them out")


def _checked(settings: PretrainSettings, init_from: str | None) -> PretrainSettings:
    """The settings with a model that can be asked whether it fits into memory. ValueError for what cannot work."""
    data, model = settings.data, settings.model
    if init_from is not None:
        model = dataclasses.replace(shape_of(init_from), dropout=model.dropout)
        data = dataclasses.replace(data, tokenizer=str(find_model(init_from, name="--init-from")))
    else:
        about = data.vocab_size if data.tokenizer == "bpe" else 256  # known, and checked again, once there is a tokenizer
        model = dataclasses.replace(model, vocab_size=about)
    check_memory(make_model(model, rng=None), batch_size=settings.training.batch_size)
    if model.block_size < 2 and settings.samples.n_samples:
        raise ValueError("block_size is 1, a context without room to write a sample in; use at least 2, or num_samples 0")
    return dataclasses.replace(settings, data=data, model=model)


def _tokenizer_and_texts(settings: PretrainSettings, out: Path, *, resume: bool, show: Show) -> tuple[Tokenizer, Texts | None]:
    """The tokenizer, and the texts unless a run that is resumed has its token files already. Writes nothing yet."""
    data = settings.data
    if data.tokenizer not in TOKENIZERS:  # a file: look at it before the text is read
        check_samples(settings.samples, load_named_tokenizer(data.tokenizer))
    saved = out / "tokenizer" if resume and (out / "tokenizer" / "tokenizer.json").exists() else None
    if saved and (out / "data" / "sources.json").exists():
        return load_tokenizer(saved), None
    show(Said(f"Reading the text: {', '.join(data.data)}"))
    texts = read_texts(data, progress=counting(show, "downloading", unit="bytes"))
    passed_over = [f"passed over: {line}" for line in texts.skipped[:N_PASSED_OVER]]
    if (more := len(texts.skipped) - N_PASSED_OVER) > 0:
        passed_over.append(f"and {more} more")
    for line in (*texts.notes, *passed_over):
        show(Said(f"  {line}"))
    tokenizer = load_tokenizer(saved) if saved else make_tokenizer(texts, data, progress=merging(show))
    check_samples(settings.samples, tokenizer)
    show(Said(f"Tokenizer: {data.tokenizer}, {tokenizer.vocab_size:,} tokens"))
    return tokenizer, texts


def merging(show: Show, label: str = "learning the tokenizer") -> Callable[[str, int, int | None], None]:
    """The tokenizer trainer's progress(stage, done, total), of which the merges are shown."""
    report = counting(show, label, unit="tokens")

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage == "merge":
            report(done, total)

    return progress


def _describe(tokens: Tokens, model: Model, training: TrainConfig, show: Show) -> None:
    """The mixture as LLaMA's paper prints it, and the size of the undertaking."""
    n_tokens = training.n_tokens(model.config.block_size)
    show(Said(f"\n{tokens.mixture.table(n_tokens)}\nheld out for validation: {len(tokens.validation):,} tokens\n"))
    facts = f"{model.num_parameters():,} parameters. Training: {training.max_steps:,} steps, {n_tokens:,} tokens."
    show(Said(f"Model: {facts}\n"))

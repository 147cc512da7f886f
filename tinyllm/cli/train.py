"""`tinyllm train`: from your text to a GPT of your own.

Reads the text, learns a tokenizer from it, turns it into token files, and trains a model to predict each next token.
It measures the loss on text held out from training, shows what the model writes by then, and saves checkpoints from
which --resume goes on exactly. The defaults are nanoGPT's small recipe for a CPU: some minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.cli.parser import lesson
from tinyllm.cli.progress import Progress
from tinyllm.cli.resuming import Input, announce_longer, note_inputs, recall_inputs, resumable
from tinyllm.cli.warmup import ensure_compiled

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm train --out runs/first                       on Python's own manual
  tinyllm train my/texts --out runs/mine --max-steps 5000
  tinyllm train books/:3 web.jsonl:1 --out runs/mix
  tinyllm train play.txt --out runs/char --tokenizer character
  tinyllm train my/texts --out runs/more --init-from runs/mine
  tinyllm train --out runs/mine --resume               go on after a stop
  tinyllm train --out runs/mine --resume --max-steps 9000

Ctrl-C saves a checkpoint and stops.
"""
INPUTS = (Input("init_from", "--init-from", "model", required=False),)


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("train", help="a GPT on your own text", description=lesson(__doc__), epilog=EPILOG)
    add = parser.add_argument
    add(
        "files",
        nargs="*",
        default=[],
        metavar="FILE",
        help="text to learn from: files, folders, patterns, URLs (default: Python's manual)",
    )
    add("--out", required=True, metavar="FOLDER", help="folder of this run, such as runs/mine")
    add("--resume", action="store_true", help="go on with the run in --out, with its settings; a larger --max-steps extends it")
    add("--init-from", metavar="MODEL", help="go on from this model's weights, with its tokenizer and shape")
    add("--size", metavar="NAME", help="a shape by name, see below; flags such as --n-layers change it")

    def fill() -> None:
        from tinyllm.cli.settings import add_options
        from tinyllm.recipes import sizes
        from tinyllm.training import TrainConfig

        add_options(parser, groups())
        parser.epilog = f"{sizes.table(TrainConfig())}\n\n{parser.epilog}"

    parser.later(fill)


def groups(size: str | None = None) -> list[Group]:
    """The settings of a run: what to read, the shape of the model, how to train, what to write on the way."""
    from tinyllm.cli.settings import Group
    from tinyllm.models.gpt import GPTConfig
    from tinyllm.recipes import sizes
    from tinyllm.recipes.pretrain import DataConfig
    from tinyllm.recipes.samples import SampleConfig
    from tinyllm.training import TrainConfig

    without = frozenset({"vocab_size"})  # the tokenizer's
    return [
        Group("data", DataConfig, hidden=frozenset({"data"})),  # the files
        Group("model", GPTConfig, defaults=sizes.shape(size or sizes.DEFAULT), without=without),
        Group("training", TrainConfig),
        Group("samples", SampleConfig, flags={"n_samples": "num_samples"}),
    ]


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/ and report.html."""
    from tinyllm.recipes import pretrain as stages

    out = Path(os.path.expanduser(args.out))
    stages.refuse_used_folder(out, resume=args.resume)
    recall_inputs(args, out, INPUTS)
    settings = read_settings(args, out)
    with resumable("train", out):
        train_run(out, {**settings, "inputs": note_inputs(args, out, INPUTS)}, resume=args.resume)
    return 0


def read_settings(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Settings by group, from the command line, a file, the run that is resumed, and the model that is gone on from."""
    from tinyllm.cli.settings import read_groups
    from tinyllm.recipes import pretrain as stages
    from tinyllm.recipes import sizes

    if args.size is not None and args.size not in sizes.SHAPES:
        raise ValueError(f"--size is {args.size!r}; expected one of {', '.join(sizes.SHAPES)}")
    if args.files:
        if hasattr(args, "data.data"):
            raise ValueError("files came as arguments and with --data; give them once")
        setattr(args, "data.data", args.files)
    saved = stages.saved_settings(out) if args.resume else {}
    wanted = [group.with_saved(saved.get(group.name, {}), where=str(out / "config.json")) for group in groups(args.size)]
    if args.size and saved:
        wanted[1] = dataclasses.replace(wanted[1], defaults={**wanted[1].defaults, **sizes.shape(args.size)})
    settings = read_groups(wanted, args)
    return settings if args.init_from is None else _with_shape_of(args, settings, groups=wanted)


def _with_shape_of(args: argparse.Namespace, settings: dict[str, Any], *, groups: list[Group]) -> dict[str, Any]:
    """The settings with the shape and the tokenizer of --init-from. ValueError, by name, for others that were asked for."""
    from tinyllm.cli.settings import values_of
    from tinyllm.cli.tuning import check_finite
    from tinyllm.models import GPT
    from tinyllm.training import find_model

    folder = find_model(args.init_from, name="--init-from")
    model = GPT.from_pretrained(folder)
    check_finite(model, folder)
    config = model.config
    given = values_of(groups, args)
    shape, free = given["model"], ("dropout", "init_std")
    for name in [name for name in shape if name not in free and shape[name] != getattr(config, name)]:
        found = f"{groups[1].flag(name)} is {shape[name]}, but the model in {folder} has {name} {getattr(config, name)}"
        raise ValueError(f"{found}, which its weights decide; leave it out")
    wrong = [groups[0].flag(name) for name in ("tokenizer", "vocab_size") if name in given["data"]]
    if args.size or wrong:
        named = "--size" if args.size else wrong[0]
        raise ValueError(f"{named} came with --init-from, whose model has its own shape and tokenizer; leave one of them out")
    config = dataclasses.replace(config, dropout=settings["model"].dropout)
    return {**settings, "model": config, "data": dataclasses.replace(settings["data"], tokenizer=str(folder))}


def train_run(out: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """All stages, each announced in a line. `settings`: those of `groups` by name, and the inputs."""
    from tinyllm.recipes import pretrain as stages
    from tinyllm.training import check_memory

    data, training, init_from = settings["data"], settings["training"], settings["inputs"]["init_from"]
    if init_from is None:
        about = data.vocab_size if data.tokenizer == "bpe" else 256  # known, and checked again, once there is a tokenizer
        settings = {**settings, "model": dataclasses.replace(settings["model"], vocab_size=about)}
    check_memory(settings["model"], batch_size=training.batch_size)
    if settings["model"].block_size < 2 and settings["samples"].n_samples:
        raise ValueError("block_size is 1, a context without room to write a sample in; use at least 2, or num_samples 0")
    tokenizer, texts = _text_and_tokenizer(out, settings, resume=resume)
    if init_from is None:
        settings = {**settings, "model": dataclasses.replace(settings["model"], vocab_size=tokenizer.vocab_size)}
    if resume:
        announce_longer(out, training)
    with stages.start_run(out, settings=settings, tokenizer=tokenizer, resume=resume) as run:
        if texts is not None:
            n_documents = sum(len(part) for side in (texts.training, texts.validation) for part in side.values())
            with Progress("encoding", n_documents, unit="documents") as progress:
                stages.encode_texts(texts, tokenizer, out / "data", progress=progress.show)
        tokens = stages.open_tokens(out / "data", tokenizer)
        model = stages.make_model(settings["model"], seed=training.seed, batch_size=training.batch_size)
        if init_from is not None:
            stages.take_weights(model, init_from)
        _describe(tokens, model, training)
        ensure_compiled()
        with Progress("training", training.max_steps, unit="steps") as progress:
            records = stages.train_model(
                model, tokens, tokenizer=tokenizer, config=training, samples=settings["samples"], run=run
            )
            stages.show_training(records, progress=progress)
        stages.finish_run(run, model, tokenizer)
    print(f"\nThe model is in {out / 'model'}, the report is {out / 'report.html'}")
    print(f'Let it write:  tinyllm generate {shlex.quote(str(out))} --prompt "..."')


def _text_and_tokenizer(out: Path, settings: dict[str, Any], *, resume: bool) -> tuple[Any, Any]:
    """The tokenizer, and the texts unless a run that is resumed has its token files already. Writes nothing yet."""
    from tinyllm.recipes import pretrain as stages
    from tinyllm.recipes.samples import check_samples
    from tinyllm.tokenizers import load_tokenizer

    data: Any = settings["data"]
    if data.tokenizer not in stages.TOKENIZERS:  # a file: look at it before the text is read
        check_samples(settings["samples"], stages.load_named_tokenizer(data.tokenizer))
    saved = out / "tokenizer" if resume and (out / "tokenizer" / "tokenizer.json").exists() else None
    if saved and (out / "data" / "sources.json").exists():
        return load_tokenizer(saved), None
    print(f"Reading the text: {', '.join(data.data)}", flush=True)
    with Progress("downloading", unit="bytes") as progress:
        texts = stages.read_texts(data, progress=lambda done, total: _show_download(progress, done, total))
    for line in texts.notes:
        print(f"  {line}")
    for line in texts.skipped[:5]:
        print(f"  passed over: {line}")
    if len(texts.skipped) > 5:
        print(f"  and {len(texts.skipped) - 5} more")
    with Progress("learning the tokenizer", unit="tokens") as progress:
        tokenizer = load_tokenizer(saved) if saved else stages.make_tokenizer(texts, data, progress=_shower(progress))
    check_samples(settings["samples"], tokenizer)
    print(f"Tokenizer: {data.tokenizer}, {tokenizer.vocab_size:,} tokens")
    return tokenizer, texts


def _show_download(progress: Progress, done: int, total: int | None) -> None:
    progress.total = total
    progress.show(done)


def _shower(progress: Progress) -> Any:
    """The tokenizer trainer's progress(stage, done, total) on one `Progress`."""

    def show(stage: str, done: int, total: int | None) -> None:
        if stage == "merge":
            progress.total = total
            progress.show(done)

    return show


def _describe(tokens: Any, model: Any, training: Any) -> None:
    """The mixture as LLaMA's paper prints it, and the size of the undertaking."""
    n_tokens = training.n_tokens(model.config.block_size)
    print(f"\n{tokens.mixture.table(n_tokens)}\nheld out for validation: {len(tokens.validation):,} tokens\n")
    print(f"Model: {model.num_parameters():,} parameters. Training: {training.max_steps:,} steps, {n_tokens:,} tokens.\n")
    sys.stdout.flush()

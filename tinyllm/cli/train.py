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
from tinyllm.cli.warmup import ensure_compiled

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm train --out runs/first                       on Python's own manual
  tinyllm train --out runs/mine --data my/texts --max-steps 5000
  tinyllm train --out runs/mix --data books/:3 --data web.jsonl:1
  tinyllm train --out runs/char --data play.txt --tokenizer character
  tinyllm train --out runs/mine --resume               go on after a stop

Ctrl-C saves a checkpoint and stops.
"""
SMALL = {"block_size": 64, "n_layers": 4, "n_heads": 4, "d_model": 128, "bias": False, "init_std": 0.05}  # nanoGPT's CPU recipe


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("train", help="a GPT on your own text", description=lesson(__doc__), epilog=EPILOG)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder of this run, such as runs/mine")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its settings")

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, groups())

    parser.later(fill)


def groups() -> list[Group]:
    """The settings of a run: what to read, the shape of the model, how to train, what to write on the way."""
    from tinyllm.cli.samples import SampleConfig
    from tinyllm.cli.settings import Group
    from tinyllm.cli.stages import DataConfig
    from tinyllm.models.gpt import GPTConfig
    from tinyllm.training import TrainConfig

    return [
        Group("data", DataConfig),
        Group("model", GPTConfig, defaults=SMALL, without=frozenset({"vocab_size"})),  # the tokenizer's
        Group("training", TrainConfig),
        Group("samples", SampleConfig),
    ]


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/ and report.html."""
    from tinyllm.cli import stages
    from tinyllm.cli.settings import read_groups

    out = Path(os.path.expanduser(args.out))
    stages.refuse_used_folder(out, resume=args.resume)
    saved = stages.saved_settings(out) if args.resume else {}
    wanted = [group.with_saved(saved.get(group.name, {}), where=str(out / "config.json")) for group in groups()]
    train_run(out, read_groups(wanted, args), resume=args.resume)
    return 0


def train_run(out: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """All stages, each announced in a line. `settings`: those of `groups` by name."""
    from tinyllm.cli import stages
    from tinyllm.training import check_memory

    data, training = settings["data"], settings["training"]
    about = data.vocab_size if data.tokenizer == "bpe" else 256  # exactly known, and checked again, once there is a tokenizer
    check_memory(dataclasses.replace(settings["model"], vocab_size=about), batch_size=training.batch_size)
    if settings["model"].block_size < 2 and settings["samples"].n_samples:
        raise ValueError("block_size is 1, a context without room to write a sample in; use at least 2, or n_samples 0")
    tokenizer, texts = _text_and_tokenizer(out, data, resume=resume)
    model_config = dataclasses.replace(settings["model"], vocab_size=tokenizer.vocab_size)
    settings = {**settings, "model": model_config}
    with stages.start_run(out, settings=settings, tokenizer=tokenizer, resume=resume) as run:
        if texts is not None:
            n_documents = sum(len(part) for side in (texts.training, texts.validation) for part in side.values())
            with Progress("encoding", n_documents, unit="documents") as progress:
                stages.encode_texts(texts, tokenizer, out / "data", progress=progress.show)
        tokens = stages.open_tokens(out / "data", tokenizer)
        model = stages.make_model(model_config, seed=training.seed, batch_size=training.batch_size)
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


def _text_and_tokenizer(out: Path, data: Any, *, resume: bool) -> tuple[Any, Any]:
    """The tokenizer, and the texts unless a run that is resumed has its token files already."""
    from tinyllm.cli import stages
    from tinyllm.tokenizers import load_tokenizer

    saved = out / "tokenizer" if resume and (out / "tokenizer" / "tokenizer.json").exists() else None
    if saved and (out / "data" / "sources.json").exists():
        return load_tokenizer(saved), None
    print(f"Reading the text: {', '.join(data.data)}", flush=True)
    with Progress("downloading", unit="bytes") as progress:
        texts = stages.read_texts(data, progress=lambda done, total: _show_download(progress, done, total))
    for line in texts.skipped[:5]:
        print(f"  passed over: {line}")
    if len(texts.skipped) > 5:
        print(f"  and {len(texts.skipped) - 5} more")
    with Progress("learning the tokenizer", unit="tokens") as progress:
        tokenizer = load_tokenizer(saved) if saved else stages.make_tokenizer(texts, data, progress=_shower(progress))
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

"""`tinyllm finetune`: teach a model to answer, from conversations.

Reads your conversations (JSON lines of messages, Alpaca, ShareGPT, or prompt and completion), or makes instructions with
exact answers, and trains on what the assistant says in them; the rest is read, not learned. With --lora-rank only small
matrices beside the frozen weights are trained; they are kept in adapters/, as PEFT does, and merged in model/.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tinyllm.cli import options
from tinyllm.cli.parser import lesson
from tinyllm.cli.resuming import add_files, files, out_folder, read_settings, resumable

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm finetune runs/mine chats.jsonl --out runs/chat
  tinyllm finetune runs/mine --out runs/instructed --max-steps 4000
  tinyllm finetune gpt2 alpaca.json --out runs/alpaca --lora-rank 8
  tinyllm finetune --out runs/chat --resume            go on after a stop
"""


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("finetune", help="teach a model to answer", description=lesson(__doc__), epilog=EPILOG)
    options.add_common_options(parser)
    text = "conversations, .jsonl or .json (default: made instructions)"
    add_files(parser, "data", metavar="FILE", flag="--data", text=text)
    options.add_settings(parser, groups)


def groups(*, lora: bool = False) -> list[Group]:
    """The settings of the verb; with `lora` the defaults that suit adapters."""
    from tinyllm.recipes.finetune import LORA_TRAINING, FinetuneSettings
    from tinyllm.recipes.tuning import TUNING

    settings = FinetuneSettings(training=LORA_TRAINING if lora else TUNING)
    rates = ("learning_rate", "min_learning_rate")
    words = {
        name: f"{options.WORDS[name]} (default: {getattr(TUNING, name)}, with --lora-rank {getattr(LORA_TRAINING, name)})"
        for name in rates
    }
    return options.groups_of(settings, words=words)


def run(args: argparse.Namespace) -> int:
    """Tune; the run's folder then holds model/ and report.html."""
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.finetune import FinetuneSettings, finetune

    out, settings = out_folder(args), read_settings(groups(), args)
    if settings["finetuning"].lora_rank:
        settings = read_settings(groups(lora=True), args)
    with Terminal() as show, resumable("finetune", out):
        finetune(args.model, files(args, "data"), out=out, settings=FinetuneSettings(**settings), resume=args.resume, show=show)
    options.farewell(out)
    return 0

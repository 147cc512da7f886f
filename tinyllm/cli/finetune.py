"""`tinyllm finetune`: teach a model to answer, from conversations.

Reads your conversations (JSON lines of messages, Alpaca, ShareGPT, or prompt and completion), or makes instructions with
exact answers, and trains on what the assistant says in them; the rest is read, not learned. With --lora-rank only small
matrices beside the frozen weights are trained; they are kept in adapters/, as PEFT does, and merged in model/.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinyllm.cli import tuning
from tinyllm.cli.parser import lesson
from tinyllm.cli.resuming import MODEL, Input, add_files

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm finetune runs/mine chats.jsonl --out runs/chat
  tinyllm finetune runs/mine --out runs/instructed --max-steps 4000
  tinyllm finetune gpt2 alpaca.json --out runs/alpaca --lora-rank 8
  tinyllm finetune --out runs/chat --resume            go on after a stop
"""


LEARNING_RATE, LORA_LEARNING_RATE = 5e-4, 5e-3  # adapters begin at 0 and are few: they want ten times the steps
INPUTS = (MODEL, Input("data", "FILE", "files", required=False))


@dataclass(frozen=True)
class FinetuneConfig:
    """What to learn from, and which weights may move."""

    n_made: int = 20_000  # questions and answers to make, where no data are given
    packing: bool = True  # several conversations a row; no = one a row, padded
    validation_fraction: float = 0.05  # part of the conversations that is held out
    lora_rank: int = 0  # r of LoRA, 0 = all weights are trained
    lora_alpha: float = 16.0  # α of LoRA

    def __post_init__(self) -> None:
        if self.n_made < 2:
            raise ValueError(f"n_made is {self.n_made}; expected at least 2, one to learn from and one to hold out")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction is {self.validation_fraction}; expected a number between 0 and 1")
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank is {self.lora_rank}; expected 0 (train all weights) or more")


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "finetune", help="teach a model to answer, from conversations", description=lesson(__doc__), epilog=EPILOG
    )
    tuning.add_common_options(parser)
    text = "conversations, .jsonl or .json (default: made instructions)"
    add_files(parser, "data", metavar="FILE", flag="--data", text=text)

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, groups())

    parser.later(fill)


def groups(*, lora: bool = False) -> list[Group]:
    """The settings of the verb; with `lora` the defaults that suit adapters."""
    from tinyllm.cli.settings import Group

    peak = LORA_LEARNING_RATE if lora else LEARNING_RATE
    both = {
        "learning_rate": f"peak, per step (default: {LEARNING_RATE}, with --lora-rank {LORA_LEARNING_RATE})",
        "min_learning_rate": f"at the end (default: {LEARNING_RATE / 10}, with --lora-rank {LORA_LEARNING_RATE / 10})",
    }
    defaults = {"learning_rate": peak, "min_learning_rate": peak / 10}
    return [Group("finetuning", FinetuneConfig), tuning.reading_group(), tuning.training_group(defaults, words=both)]


def run(args: argparse.Namespace) -> int:
    """Tune; the run's folder then holds model/ and report.html."""
    from tinyllm.chat import ChatSettings
    from tinyllm.models import save_adapters
    from tinyllm.nn.lora import add_lora, has_lora, merge_lora
    from tinyllm.recipes import assistant
    from tinyllm.recipes import pretrain as stages
    from tinyllm.training.streams import stream

    out = tuning.out_folder(args)
    settings = tuning.read_settings(groups(), args, INPUTS)
    if settings["finetuning"].lora_rank:
        settings = tuning.read_settings(groups(lora=True), args)
    config, training = settings["finetuning"], settings["training"]
    model, tokenizer = tuning.load_for_chat(args.model, seed=training.seed)
    demonstrations = read_demonstrations(args.data, settings, tokenizer=tokenizer, block_size=model.config.block_size)
    if demonstrations.left_out:
        print(f"Left out: {demonstrations.left_out}")
    if config.lora_rank:
        rng = stream(training.seed, "adapters")
        add_lora(model, rank=config.lora_rank, alpha=config.lora_alpha, rng=rng)
    tuning.refuse_too_large(model, rows=min(training.batch_size, demonstrations.n))
    n_trained = sum(weight.size for weight in model.parameters())
    print(f"Model: {model.num_parameters():,} parameters, {n_trained:,} of them trained", flush=True)
    with tuning.tuning_run("finetune", args, settings=settings, inputs=INPUTS, tokenizer=tokenizer) as folder:
        records = assistant.tune(model, demonstrations, config=training, run=folder, packing=config.packing)
        tuning.show_records(records, label="finetuning", total=training.max_steps, shown={})
        assistant.write_held_out_answers(model, demonstrations, tokenizer, run=folder)
        if has_lora(model):
            save_adapters(model, out / "adapters")
            merge_lora(model)
        if not args.data:
            ChatSettings(turns=1).save(out / "model")  # the made questions stand alone
        stages.finish_run(folder, model, tokenizer)
    print(f"\nThe model is in {out / 'model'}, the report is {out / 'report.html'}")
    print(f"Talk with it:  tinyllm chat {shlex.quote(str(out))}")
    return 0


def read_demonstrations(paths: Sequence[str], settings: Mapping[str, Any], *, tokenizer: Any, block_size: int) -> Any:
    """The conversations of a run with these settings as ids: those it learns from, and those it holds out."""
    from tinyllm.recipes.assistant import encode_demonstrations

    config, training = settings["finetuning"], settings["training"]
    conversations = _conversations(paths, roles=settings["reading"].roles, n_made=config.n_made, seed=training.seed)
    shape = {"block_size": block_size, "config": training, "validation_fraction": config.validation_fraction}
    return encode_demonstrations(conversations, tokenizer, **shape)


def _conversations(
    paths: Sequence[str], *, roles: Mapping[str, str], n_made: int, seed: int
) -> list[list[dict[str, str]]]:  # fmt: skip
    """Those of the files, or made ones; says which."""
    if not paths:
        from tinyllm.recipes.assistant import make_demonstrations

        made = make_demonstrations(n_made, seed=seed)
        print(f"Conversations: {len(made):,}, of {n_made:,} made questions and answers")
        return made
    from tinyllm.data.conversations.messages import read_conversations

    conversations = []
    for path in paths:
        found, report = read_conversations(os.path.expanduser(path), roles=roles)
        conversations += found
        print(f"Conversations: {report}")
    return conversations

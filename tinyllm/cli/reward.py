"""`tinyllm reward`: a model of what people prefer, learned from pairs of answers.

Reads pairs (prompt, chosen, rejected), as `tinyllm label export` writes them or as they are published, and trains a copy of
the model with a head that gives each answer a number: higher for the preferred one. All pairs of a prompt share a batch, and
each is seen once unless --max-steps says otherwise. Prompts are held out to say how often it decides as the labelers did.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from typing import TYPE_CHECKING, Any

from tinyllm.cli import tuning
from tinyllm.cli.parser import lesson
from tinyllm.cli.resuming import MODEL

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm reward runs/chat pairs.jsonl --out runs/reward
  tinyllm reward runs/chat a.jsonl b.jsonl --out runs/reward --max-steps 200
  tinyllm reward --out runs/reward --resume            go on after a stop
"""
DEFAULTS = {"batch_size": 8, "learning_rate": 5e-4, "min_learning_rate": 0.0, "eval_interval": 0}  # learning rate -> 0
WORDS = {
    "batch_size": "prompts in one micro-batch, each with all its answers",
    "max_steps": "optimizer steps in the whole run (default: as many as show each prompt once)",
}
INPUTS = (MODEL, tuning.PAIRS)


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("reward", help="a model of what people prefer", description=lesson(__doc__), epilog=EPILOG)
    tuning.add_common_options(parser)
    tuning.add_pairs(parser)

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, groups())

    parser.later(fill)


def groups() -> list[Group]:
    """The settings of the verb. Unless max_steps is given it is one epoch: how many that are, the pairs say."""
    from tinyllm.cli.settings import Group
    from tinyllm.recipes.assistant import RewardConfig

    without = ("eval_interval", "eval_batches")
    training = tuning.training_group(DEFAULTS, without=without, words=WORDS)
    return [Group("reward", RewardConfig), tuning.reading_group(), training]


def with_length(training: Any, comparisons: Any, *, max_steps: int | None) -> Any:
    """The training settings with `max_steps` (None: as many as show each prompt once), at most a tenth of them to warm up."""
    batch_size = min(training.batch_size, len(comparisons.groups))  # a larger one would hold prompts twice
    n_steps = max_steps or -(-comparisons.steps_per_epoch(batch_size) // training.gradient_accumulation)
    own = {"batch_size": batch_size, "max_steps": n_steps, "warmup_steps": min(training.warmup_steps, n_steps // 10)}
    return dataclasses.replace(training, **own)


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/, with the head, and report.html."""
    from tinyllm.cli.settings import values_of
    from tinyllm.recipes import assistant
    from tinyllm.recipes import pretrain as stages

    out = tuning.out_folder(args)
    settings = tuning.read_settings(groups(), args, INPUTS)
    known = "max_steps" in values_of(groups(), args)["training"] or (args.resume and "training" in stages.saved_settings(out))
    model, tokenizer = tuning.load_for_chat(args.model, seed=settings["training"].seed)
    shape = {"block_size": model.config.block_size, "seed": settings["training"].seed}
    comparisons = tuning.read_comparisons(args.preferences, tokenizer, roles=settings["reading"].roles, **shape)
    max_steps = settings["training"].max_steps if known else None
    settings["training"] = training = with_length(settings["training"], comparisons, max_steps=max_steps)
    n_steps = training.max_steps
    most_answers = max(len(group.answers) for group in comparisons.groups)
    tuning.refuse_too_large(model, rows=most_answers * training.batch_size)
    with tuning.tuning_run("reward", args, settings=settings, inputs=INPUTS, tokenizer=tokenizer) as folder:
        task = assistant.train_reward(model, comparisons, config=training, reward_config=settings["reward"], run=folder)
        tuning.show_records(task.records, label="reward model", total=n_steps, shown={})
        accuracy, error = task.finish()
        assistant.finish_reward(task.model, comparisons, tokenizer, run=folder)
    n_held_out = len(comparisons.held_out)
    print(f"\nOn {n_held_out} held-out prompts it decides {accuracy:.1%} ± {error:.1%} of the pairs as the labelers did")
    print(f"The model is in {out / 'model'}, the report is {out / 'report.html'}")
    print(f"Use it:  tinyllm rl {shlex.quote(args.model)} PROMPTS --reward-model {shlex.quote(str(out))} --out runs/rl")
    return 0

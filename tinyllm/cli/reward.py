"""`tinyllm reward`: a model of what people prefer, learned from pairs of answers.

Reads pairs (prompt, chosen, rejected), as `tinyllm label export` writes them or as they are published, and trains a copy of
the model with a head that gives each answer a number: higher for the preferred one. All pairs of a prompt share a batch, and
each is seen once. Prompts are held out to say how often it decides as the labelers did.
"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from tinyllm.cli import tuning
from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm reward runs/chat --preferences pairs.jsonl --out runs/reward
  tinyllm reward runs/chat --preferences pairs.jsonl --out runs/reward --margin-scale 0.2
"""
DEFAULTS = {"batch_size": 8, "learning_rate": 5e-4, "min_learning_rate": 0.0, "eval_interval": 0}  # learning rate -> 0


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "reward", help="a model of what people prefer", description=lesson(__doc__), epilog=EPILOG
    )
    tuning.add_common_options(parser)
    parser.add_argument("--preferences", required=True, metavar="FILE", help="pairs of answers, .jsonl or .json")

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, groups())

    parser.later(fill)


def groups() -> list[Group]:
    """The settings of the verb. max_steps is one epoch: how many that are, the pairs say."""
    from tinyllm.cli.assistant import RewardConfig
    from tinyllm.cli.settings import Group
    from tinyllm.training import TrainConfig

    without = frozenset({"max_steps", "eval_batches"})
    training = Group("training", TrainConfig, defaults={**tuning.TUNING, **DEFAULTS}, without=without)
    return [Group("reward", RewardConfig), training]


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/, with the head, and report.html."""
    import dataclasses

    from tinyllm.cli import assistant, stages
    from tinyllm.data.preferences import read_preferences

    out = tuning.out_folder(args)
    settings = tuning.read_settings(groups(), args, out)
    model, tokenizer = tuning.load_for_chat(args.model, seed=settings["training"].seed)
    preferences, report = read_preferences(args.preferences)
    print(f"Pairs: {report}")
    comparisons = assistant.prepare_comparisons(preferences, tokenizer, block_size=model.config.block_size)
    print(f"As ids: {comparisons.report}", flush=True)
    n_steps = comparisons.steps_per_epoch(settings["training"].batch_size)
    settings["training"] = training = dataclasses.replace(settings["training"], max_steps=n_steps)
    inputs = {"model": args.model, "preferences": args.preferences}
    with tuning.tuning_run(out, settings=settings, inputs=inputs, tokenizer=tokenizer, resume=args.resume) as folder:
        task = assistant.train_reward(model, comparisons, config=training, reward_config=settings["reward"], run=folder)
        tuning.show_records(task.records, label="reward model", total=n_steps, shown={})
        accuracy, error = task.finish()
        stages.finish_run(folder, task.model, tokenizer)
    n_held_out = len(comparisons.held_out)
    print(f"\nOn {n_held_out} held-out prompts it decides {accuracy:.1%} ± {error:.1%} of the pairs as the labelers did")
    print(f"The model is in {out / 'model'}, the report is {out / 'report.html'}")
    print(f"Use it:  tinyllm rl {shlex.quote(args.model)} --reward-model {shlex.quote(str(out))} --prompts FILE --out runs/rl")
    return 0

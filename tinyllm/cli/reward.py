"""`tinyllm reward`: a model of what people prefer, learned from pairs of answers.

Reads pairs (prompt, chosen, rejected), as `tinyllm label export` writes them or as they are published, and trains a copy of
the model with a head that gives each answer a number: higher for the preferred one. All pairs of a prompt share a batch, and
each is seen once unless --max-steps says otherwise. Prompts are held out to say how often it decides as the labelers did.
"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from tinyllm.cli import options
from tinyllm.cli.parser import lesson
from tinyllm.cli.resuming import add_files, files, out_folder, read_settings, resumable

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm reward runs/chat pairs.jsonl --out runs/reward
  tinyllm reward runs/chat a.jsonl b.jsonl --out runs/reward --max-steps 200
  tinyllm reward --out runs/reward --resume            go on after a stop
"""
WORDS = {
    "batch_size": "prompts in one micro-batch, each with all its answers",
    "max_steps": "optimizer steps in the whole run (default: as many as show each prompt once)",
}


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("reward", help="a model of what people prefer", description=lesson(__doc__), epilog=EPILOG)
    options.add_common_options(parser)
    add_files(parser, "preferences", metavar="PAIRS", flag="--preferences", text="pairs of answers, .jsonl or .json")
    options.add_settings(parser, groups)


def groups() -> list[Group]:
    """The settings of the verb. Unless max_steps is given it is one epoch: how many that are, the pairs say."""
    from tinyllm.recipes.reward import RewardSettings

    return options.groups_of(RewardSettings(), words=WORDS, without=("eval_interval", "eval_batches"))


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/, with the head, and report.html."""
    from tinyllm.cli.settings import values_of
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.inputs import saved_inputs
    from tinyllm.recipes.reward import RewardSettings, reward

    out, settings = out_folder(args), RewardSettings(**read_settings(groups(), args))
    one_epoch = "max_steps" not in values_of(groups(), args)["training"]
    with Terminal() as show, resumable("reward", out):
        found = reward(
            args.model, files(args, "preferences"), out=out, settings=settings, one_epoch=one_epoch, resume=args.resume,
            show=show,
        )  # fmt: skip
    share, error = found.accuracy
    print(f"\nOn {found.n_held_out} held-out prompts it decides {share:.1%} ± {error:.1%} of the pairs as the labelers did")
    print(f"The model is in {out / 'model'}, the report is {out / 'report.html'}")
    model = shlex.quote(str(saved_inputs(out)["model"]))
    print(f"Use it:  tinyllm rl {model} PROMPTS --reward-model {shlex.quote(str(out))} --out runs/rl")
    return 0

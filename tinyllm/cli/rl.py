"""`tinyllm rl`: improve a model on its own answers, judged by a reward model or by a function of yours.

Each round the model answers some prompts, the answers are scored, and what scored above expectation becomes likelier; every nat
of distance from where it began has its price. Who scores: a reward model, or with --reward a Python function, def score(prompt,
answer), which gives a number (or of lists: def score(prompts, answers)). Methods: ppo (a value model says what to expect), grpo
and rloo (the other answers to the same prompt do), reinforce (the mean of all answers).
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
  tinyllm rl runs/chat asked.txt --reward-model runs/rm --out runs/ppo
  tinyllm rl runs/chat q.txt --reward my.py:score --method grpo --out runs/grpo
  tinyllm rl runs/chat news --reward-model runs/rm --out runs/news
  tinyllm rl --out runs/ppo --resume                   go on after a stop
"""


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("rl", help="improve a model on its own answers", description=lesson(__doc__), epilog=EPILOG)
    options.add_common_options(parser)
    add = parser.add_argument
    text = "prompts: text, one a line; or .jsonl; or news, the built-in stories"
    add_files(parser, "prompts", metavar="PROMPTS", flag="--prompts", text=text)
    add("--reward-model", metavar="FOLDER", help="folder of the reward model, or of its run")
    add("--reward", metavar="FILE.py:NAME", help="a Python function in place of a reward model; the file is run")
    add("--method", metavar="NAME", help="ppo, grpo, rloo or reinforce (default: ppo)")
    options.add_settings(parser, groups)


def groups() -> list[Group]:
    """The settings of the verb: those that all methods share, and the training."""
    from tinyllm.recipes.improve import ImproveSettings

    words = {"gradient_accumulation": "minibatches added up in one step"}
    return options.groups_of(ImproveSettings(), words=words, without=("batch_size", "eval_interval", "eval_batches"))


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/, report.html, and samples from before and after."""
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.improve import ImproveSettings, improve

    out, settings = out_folder(args), ImproveSettings(**read_settings(groups(), args))
    with Terminal() as show, resumable("rl", out):
        improve(
            args.model, files(args, "prompts"), out=out, method=args.method, reward_model=args.reward_model,
            reward=args.reward, settings=settings, resume=args.resume, show=show,
        )  # fmt: skip
    options.farewell(out)
    return 0

"""`tinyllm dpo`: from pairs of answers straight to a better policy, without a reward model.

Raises the probability of the chosen answers against that of the rejected ones, relative to the model it began with. Watch the
margin and the accuracy rise, and how far the chosen answers' own log-probability falls.
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
  tinyllm dpo runs/chat pairs.jsonl --out runs/dpo
  tinyllm dpo runs/chat pairs.jsonl --out runs/ipo --loss ipo
  tinyllm dpo --out runs/dpo --resume                  go on after a stop
"""


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "dpo", help="a better policy straight from pairs of answers", description=lesson(__doc__), epilog=EPILOG
    )
    options.add_common_options(parser)
    add_files(parser, "preferences", metavar="PAIRS", flag="--preferences", text="pairs of answers, .jsonl or .json")
    options.add_settings(parser, groups)


def groups() -> list[Group]:
    """The settings of the verb."""
    from tinyllm.recipes.dpo import DPOSettings

    return options.groups_of(DPOSettings(), words={"batch_size": "pairs in one micro-batch"})


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/ and report.html."""
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.dpo import DPOSettings, dpo

    out, settings = out_folder(args), DPOSettings(**read_settings(groups(), args))
    with Terminal() as show, resumable("dpo", out):
        dpo(args.model, files(args, "preferences"), out=out, settings=settings, resume=args.resume, show=show)
    options.farewell(out)
    return 0

"""`tinyllm evaluate`: how well a model predicts a text, and how many questions it answers right, with standard errors.

A text is measured in nats a token (the loss), as a perplexity (as unsure as among so many equally likely tokens), and in bits a
byte, which can be compared between models with different tokenizers. A .jsonl file with "prompt" and "answer" is a test: right is
the answer letter by letter, and the model always writes its likeliest token. Without a file it is what the run held out (of
conversations: what the assistant says in them), or else the tenth of Python's language reference that `tinyllm train` holds out.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from tinyllm.cli import options
from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm evaluate runs/mine                           on what it held out
  tinyllm evaluate runs/mine novel.txt notes/
  tinyllm evaluate runs/chat questions.jsonl --json
"""


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("evaluate", help="loss, perplexity, right answers", description=lesson(__doc__), epilog=EPILOG)
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder of a model, or of a run")
    text = "texts, as train reads them, or tests (.jsonl with prompt and answer)"
    add("files", nargs="*", default=[], metavar="FILE", help=text)
    add("--json", action="store_true", help="print one JSON object, for programs")
    options.add_settings(parser, groups)


def groups() -> list[Group]:
    """The settings of the verb."""
    from tinyllm.cli.settings import Group
    from tinyllm.recipes.evaluate import EvaluateConfig

    return [Group("evaluation", EvaluateConfig())]


def run(args: argparse.Namespace) -> int:
    """Measure, and print it."""
    from tinyllm.cli.settings import read_groups
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.evaluate import evaluate
    from tinyllm.report.evaluation import as_text

    config = read_groups(groups(), args)["evaluation"]
    with Terminal() as show:
        report = evaluate(args.model, args.files, config=config, show=show)
    print(json.dumps(report, indent=2, allow_nan=False) if args.json else as_text(report))
    return 0

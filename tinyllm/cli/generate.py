"""`tinyllm generate`: let a model go on with a text.

The model gives each possible next token a probability; the settings below say how one is picked. Temperature 0 always
takes the likeliest, 1 draws as the model believes; top-k, top-p and min-p leave out the unlikely ones first. The text
appears as it is written. A model that was trained on conversations gets the prompt as a user's message and answers it;
--raw lets it go on with the text instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tinyllm.cli.options import add_settings
from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group
    from tinyllm.decoding import GenerationConfig

EPILOG = """examples:
  tinyllm generate runs/mine --prompt "Once upon a time"
  tinyllm generate runs/mine --temperature 1 --top-p 0.95 --num-samples 3
  tinyllm generate runs/chat --prompt "What is 12 times 7?"
  tinyllm generate runs/mine --int8 --temperature 0
  tinyllm generate runs/mine --prompt - --max-new-tokens 500 < story.txt
"""
FLAGS = {"stop_strings": "stop", "n_beams": "beams"}
SEED = 1337  # as everywhere


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("generate", help="text from a model", description=lesson(__doc__), epilog=EPILOG)
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder of a model, or of a run (its newest checkpoint while it goes on)")
    add("--prompt", default="", metavar="TEXT", help="how the text begins; - reads it from the input (default: empty)")
    add("--num-samples", type=int, default=1, metavar="N", help="how many texts (default: 1)")
    add("--seed", type=int, default=SEED, metavar="N", help=f"the same number gives the same text (default: {SEED})")
    add("--raw", action="store_true", help="go on with the text, also where the model was trained on conversations")
    add("--int8", action="store_true", help="weights rounded to 8 bits: a quarter of the memory, faster, a little less exact")
    add("--echo", action=argparse.BooleanOptionalAction, help="show the prompt too (default: yes, but not before an answer)")
    add_settings(parser, lambda: [_group()])


def _group() -> Group:
    from tinyllm.cli.settings import Group
    from tinyllm.decoding import TEMPERATURE, GenerationConfig

    return Group("generation", GenerationConfig(temperature=TEMPERATURE), flags=FLAGS)


def read_config(args: argparse.Namespace) -> GenerationConfig:
    """The settings of generation; beam search, which draws nothing, has no default temperature."""
    from tinyllm.cli.settings import read_groups, values_of
    from tinyllm.decoding import GenerationConfig

    given = values_of([_group()], args)["generation"]
    if given.get("n_beams", 1) > 1 and "temperature" not in given:
        return GenerationConfig(**given)
    return read_groups([_group()], args)["generation"]


def run(args: argparse.Namespace) -> int:
    """Write the samples to the output."""
    from tinyllm.cli.terminal import Terminal, harmless
    from tinyllm.recipes.generate import Writer
    from tinyllm.recipes.loading import load_writer, speaks_chat

    if args.num_samples < 1:
        raise ValueError(f"--num-samples is {args.num_samples}; expected at least 1")
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; expected 0 or more")
    config = read_config(args)
    if config.n_beams > 1 and args.num_samples > 1:
        beams = f"--num-samples {args.num_samples} with --beams {config.n_beams}"
        raise ValueError(f"{beams}: beam search finds one text; leave one of them out")
    typed = args.prompt.encode("utf-8", "surrogateescape")
    # the line end that echo and editors put behind a text is hardly meant
    prompt = sys.stdin.buffer.read().removesuffix(b"\n") if args.prompt == "-" else typed
    with Terminal() as told:
        model, tokenizer = load_writer(args.model, int8=args.int8, show=told)
    asked = bool(prompt) and not args.raw and speaks_chat(args.model, tokenizer)
    show: Callable[[str], str] = harmless if sys.stdout.isatty() else str
    notes: list[str] = []  # shown behind the text: on a terminal they would come in its middle
    writer = Writer(model, tokenizer, config, notes.append)
    write = writer.answers if asked else writer.samples
    for number, pieces in enumerate(write(prompt, n=args.num_samples, seed=args.seed), start=1):
        if args.num_samples > 1:
            print(f"--- {number} of {args.num_samples}", flush=True)
        if args.echo or (args.echo is None and not asked):
            print(show(prompt.decode("utf-8", "replace")), end="\n" if asked else "", flush=True)
        for piece in pieces:
            print(show(piece), end="", flush=True)
        print(flush=True)
        while notes:
            print("tinyllm: note:", notes.pop(0), file=sys.stderr)
    return 0

"""`tinyllm train`: from your text to a language model of your own.

Reads the text, learns a tokenizer from it, turns it into token files, and trains a model to predict each next token.
It measures the loss on text held out from training, shows what the model writes by then, and saves checkpoints from
which --resume goes on exactly. The defaults are nanoGPT's small recipe for a CPU: some minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from typing import TYPE_CHECKING, Any

from tinyllm.cli.architectures import KINDS, add_kind
from tinyllm.cli.parser import lesson
from tinyllm.cli.resuming import out_folder, read_settings, resumable

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm train --out runs/first                       on Python's own manual
  tinyllm train my/texts --out runs/mine --max-steps 5000
  tinyllm train books/:3 web.jsonl:1 --out runs/mix
  tinyllm train play.txt --out runs/char --tokenizer character
  tinyllm train my/texts --out runs/more --init-from runs/mine
  tinyllm train --out runs/mine --resume               go on after a stop
  tinyllm train --out runs/mine --resume --max-steps 9000

Ctrl-C saves a checkpoint and stops.
"""


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("train", help="a language model on your own text", description=lesson(__doc__), epilog=EPILOG)
    add = parser.add_argument
    add(
        "files",
        nargs="*",
        default=[],
        metavar="FILE",
        help="text to learn from: files, folders, patterns, URLs (default: Python's manual)",
    )
    add("--out", required=True, metavar="FOLDER", help="folder of this run, such as runs/mine")
    add("--resume", action="store_true", help="go on with the run in --out, with its settings; a larger --max-steps extends it")
    add("--init-from", metavar="MODEL", help="go on from this model's weights, with its tokenizer and shape")
    add("--size", metavar="NAME", help="a shape by name, see below; flags such as --n-layers change it")

    add_kind(parser, lambda kind: groups(kind)[1])

    def fill() -> None:
        from tinyllm.cli.settings import add_options
        from tinyllm.recipes import sizes
        from tinyllm.training import TrainConfig

        add_options(parser, [group for group in groups(KINDS[0]) if group.name != "model"], config=False)
        parser.epilog = f"{sizes.table(TrainConfig())}\n\n{parser.epilog}"

    parser.later(fill)


def groups(kind: str) -> list[Group]:
    """The settings of a run: what to read, the shape of the model, how to train, what to write on the way."""
    from tinyllm.cli.settings import Group
    from tinyllm.recipes import sizes
    from tinyllm.recipes.pretrain import PretrainSettings

    default = PretrainSettings(model=sizes.SHAPES[kind][sizes.DEFAULT])
    return [
        Group("data", default.data, hidden=("data",)),  # the files
        Group("model", default.model, without=("vocab_size",)),  # the tokenizer's
        Group("training", default.training),
        Group("samples", default.samples, flags={"n_samples": "num_samples"}),
    ]


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/ and report.html."""
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.pretrain import PretrainSettings, pretrain

    out, settings = out_folder(args), PretrainSettings(**settings_of(args))
    with Terminal() as show, resumable("train", out):
        pretrain(settings, out=out, init_from=args.init_from, resume=args.resume, show=show)
    print(f"\nThe model is in {out / 'model'}, the report is {out / 'report.html'}")
    print(f'Let it write:  tinyllm generate {shlex.quote(str(out))} --prompt "..."')
    return 0


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Settings by group. ValueError, by name, for what contradicts --size or --init-from."""
    from tinyllm.cli.settings import values_of
    from tinyllm.recipes import sizes
    from tinyllm.recipes.pretrain import architecture_for, refuse_other_shape
    from tinyllm.recipes.runs import saved_settings

    saved = saved_settings(out_folder(args)) if args.resume else None
    kind = args.kind = architecture_for(args.kind, saved=saved, init_from=args.init_from)
    shapes, own = sizes.SHAPES[kind], groups(kind)
    if args.size is not None and args.size not in shapes:
        raise ValueError(f"--size is {args.size!r}; expected one of {', '.join(shapes)}")
    if args.files:
        if hasattr(args, "data.data"):
            raise ValueError("files came as arguments and with --data; give them once")
        setattr(args, "data.data", args.files)
    sizes.refuse_others(kind, vars(args))
    settings = read_settings(own, args)
    given = values_of(own, args)
    if args.size:  # the shape by name, and what flags change of it
        settings["model"] = dataclasses.replace(shapes[args.size], **given["model"])
    if args.init_from is not None:
        refuse_other_shape(args.init_from, given, size=args.size)
    return settings

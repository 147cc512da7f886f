"""Going on with a run: `tinyllm VERB --out runs/mine --resume` is all there is to type, and is said when a run stops."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group


def add_files(parser: argparse.ArgumentParser, name: str, *, metavar: str, flag: str, text: str) -> None:
    """The positional list of files `name`; `flag`, which --help does not list, names a single one."""
    parser.add_argument(name, nargs="*", default=[], metavar=metavar, help=text)
    parser.add_argument(flag, dest=f"{name}_flag", help=argparse.SUPPRESS)


def files(args: argparse.Namespace, name: str) -> list[str]:
    """What was given as the list of files `name`."""
    flagged = getattr(args, f"{name}_flag", None)
    return [*getattr(args, name), *([flagged] if flagged else [])]


def out_folder(args: argparse.Namespace) -> Path:
    """--out, with ~ made whole."""
    return Path(os.path.expanduser(args.out))


def read_settings(groups: Sequence[Group], args: argparse.Namespace) -> dict[str, Any]:
    """The settings by group, those of the run in --out as defaults when it is resumed. ValueError for a folder in use."""
    from tinyllm.cli.settings import read_groups
    from tinyllm.recipes.runs import refuse_used_folder, saved_settings

    out = out_folder(args)
    refuse_used_folder(out, resume=args.resume)
    saved = saved_settings(out) if args.resume else {}
    where = str(out / "config.json")
    return read_groups([group.with_saved(saved.get(group.name, {}), where=where) for group in groups], args)


@contextlib.contextmanager
def resumable(verb: str, out: Path, *, runs: Sequence[str] = ("",)) -> Iterator[None]:
    """Around a run: when it is stopped, or fails for want of disk or memory with a checkpoint there, say how to go on.

    runs  the folders of the runs within `out`, where there are several
    """
    from tinyllm.training import Stopped
    from tinyllm.training.checkpoint import list_checkpoints

    command = f"tinyllm {verb} --out {shlex.quote(str(out))} --resume"
    try:
        yield
    except Stopped as stop:
        if stop.checkpoint:
            stop.advice = f"go on with:  {command}"
        raise
    except (OSError, MemoryError, KeyboardInterrupt) as error:
        if any(list_checkpoints(out / run / "checkpoints") for run in runs):
            error.add_note(f"what was saved before is whole; go on with:  {command}")
        raise

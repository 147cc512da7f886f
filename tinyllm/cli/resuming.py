"""Going on with a run: `tinyllm VERB --out runs/mine --resume` is all there is to type.

What a run is made of (the model it began with, the files it learns from) stands in its config.json, with a sha256 of the content:

    recall_inputs(args, out, inputs)   fills in what the command line left out; ValueError for what is missing
    note_inputs(args, out, inputs)     what config.json gets; ValueError, by name, for what holds something else than it did
    announce_longer(out, training)     says what the learning rate does when --max-steps is larger than it was
    resumable(verb, out)               puts the command to go on with into what is said when a run stops
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.cli.parser import UsageError


@dataclass(frozen=True)
class Input:
    """One thing that a run is made of. kind: "model" (a folder), "files" (a list of paths), or "function" (FILE.py:NAME)."""

    name: str  # in the parsed arguments, and in config.json
    shown: str  # on the command line
    kind: str
    required: bool = True


MODEL = Input("model", "MODEL", "model")
BUILT_IN = ("news",)  # words that stand for built-in text where a file could stand


def add_files(parser: argparse.ArgumentParser, name: str, *, metavar: str, flag: str, text: str) -> None:
    """The positional list of files `name`; `flag`, which --help does not list, names a single one."""
    parser.add_argument(name, nargs="*", default=[], metavar=metavar, help=text)
    parser.add_argument(flag, dest=f"{name}_flag", help=argparse.SUPPRESS)


def recall_inputs(args: argparse.Namespace, out: Path, inputs: Sequence[Input]) -> None:
    """Fill the inputs that were not given with those of the run in `out` if it is resumed. UsageError for a missing one."""
    saved = _saved_inputs(out) if args.resume else {}
    for one in inputs:
        given = getattr(args, one.name)
        if one.kind == "files":
            flagged = getattr(args, f"{one.name}_flag", None)
            given = [*given, *([flagged] if flagged else [])]
        setattr(args, one.name, given or saved.get(one.name) or ([] if one.kind == "files" else None))
        if one.required and not getattr(args, one.name):
            where = f"; there is no run in {out} to take it from" if args.resume else ""
            raise UsageError(f"{one.shown} is missing{where}")


def note_inputs(args: argparse.Namespace, out: Path, inputs: Sequence[Input]) -> dict[str, Any]:
    """name -> the words, and name_sha256 -> of what they hold, for the run's settings.

    The same content at another place is the same input, and keeps its first name. ValueError for other content.
    """
    saved = _saved_inputs(out) if args.resume else {}
    noted: dict[str, Any] = {}
    for one in inputs:
        words = getattr(args, one.name)
        sha256 = _digest(one, words) if words else None
        if one.name in saved:
            _refuse_other(one, words, sha256, saved=saved, out=out)
            words = saved[one.name]
        noted |= {one.name: words, f"{one.name}_sha256": sha256}
    return noted


def _saved_inputs(out: Path) -> dict[str, Any]:
    """The inputs in the config.json of a run, {} if there is none. FormatError for one that was edited to something else."""
    from tinyllm.recipes.pretrain import saved_settings
    from tinyllm.storage import strict_json

    saved = saved_settings(out).get("inputs", {})
    strict_json.check(saved, strict_json.MapOf((str, [str], None)), file=out / "config.json", field="settings.inputs")
    return saved


def _digest(one: Input, words: Any) -> str | None:
    """The sha256 of all that an input holds; None of built-in text."""
    from tinyllm.training import find_model

    if one.kind == "model":
        paths = sorted(find_model(words, name=one.shown).glob("*.safetensors"))
    elif one.kind == "function":
        paths = [Path(os.path.expanduser(words.rpartition(":")[0]))]
    else:
        paths = [Path(os.path.expanduser(word)) for word in words if word not in BUILT_IN]
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest() if paths else None


def _refuse_other(one: Input, words: Any, sha256: str | None, *, saved: dict[str, Any], out: Path) -> None:
    """ValueError unless an input holds what it held when the run began."""
    before = saved.get(f"{one.name}_sha256")
    if sha256 == before and (sha256 or words == saved[one.name]):
        return
    now, then = _words(words), _words(saved[one.name])
    if now == then:
        found = f"{now} has changed since the run in {out} began with it"
        advice = "put back what it was, or start a new run in another folder"
    else:
        found = f"{now} is not that of the run in {out}, which began with {then}"
        advice = "leave it out to go on with the run's own, or start a new run in another folder"
    sums = f" (sha256 {before[:12]}..., now {sha256[:12]}...)" if before and sha256 else ""
    raise ValueError(f"{one.shown}: {found}{sums}; {advice}")


def _words(words: Any) -> str:
    return " ".join(words) if isinstance(words, list) and words else str(words or "none")


def announce_longer(out: Path, training: Any) -> None:
    """Print what the learning rate does from here if the run in `out` is to be longer than was said when it began."""
    from tinyllm.recipes.pretrain import saved_settings
    from tinyllm.training.checkpoint import list_checkpoints

    before = saved_settings(out).get("training", {}).get("max_steps")
    if not isinstance(before, int) or training.max_steps <= before:
        return
    saved = [int(path.name.split("-")[1]) for path in list_checkpoints(out / "checkpoints")]
    step = saved[-1] if saved else 0
    here, last = (f"{training.learning_rate_at(at):.2g}" for at in (step, training.max_steps))
    schedule = f"the {training.schedule} schedule over {training.max_steps:,} steps"
    print(f"Longer: {before:,} steps become {training.max_steps:,}.", end=" ")
    print(f"From step {step:,} on the learning rate is that of {schedule}: {here} there, {last} at the end.", flush=True)


@contextlib.contextmanager
def resumable(verb: str, out: Path, *, run: Path | None = None) -> Iterator[None]:
    """Around a run: when it is stopped, or fails for want of disk or memory with a checkpoint there, say how to go on.

    run  the run's folder, where that is one of several in `out`
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
        if list_checkpoints((run or out) / "checkpoints"):
            error.add_note(f"what was saved before is whole; go on with:  {command}")
        raise

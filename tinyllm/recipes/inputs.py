"""What a run is made of: the model it began with and the files it learns from stand in its config.json, with a sha256 of each.

words = recall(INPUTS, given, out, resume=...)   fills in what was not given; ValueError for what is missing
note(INPUTS, words, out, resume=...)             what config.json gets; ValueError, by name, for what holds something else now
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyllm.recipes.runs import saved_settings
from tinyllm.storage import strict_json
from tinyllm.training import find_model

Words = str | list[str] | None  # a folder, files, FILE.py:NAME, or nothing


@dataclass(frozen=True)
class Input:
    """One thing that a run is made of. kind: "model" (a folder), "files" (a list of paths), or "function" (FILE.py:NAME)."""

    name: str  # in config.json
    shown: str  # on the command line
    kind: str
    required: bool = True


MODEL = Input("model", "MODEL", "model")
PAIRS = Input("preferences", "PAIRS", "files")
BUILT_IN = ("news",)  # words that stand for built-in text where a file could stand


def recall(inputs: Sequence[Input], given: Mapping[str, Words], out: Path, *, resume: bool) -> dict[str, Words]:
    """The inputs by name: as given, else those of the run in `out` that is resumed. ValueError for a missing one."""
    saved = saved_inputs(out) if resume else {}
    words: dict[str, Words] = {}
    for one in inputs:
        words[one.name] = given.get(one.name) or saved.get(one.name) or ([] if one.kind == "files" else None)
        if one.required and not words[one.name]:
            where = f"; there is no run in {out} to take it from" if resume else ""
            raise ValueError(f"{one.shown} is missing{where}")
    return words


def note(inputs: Sequence[Input], words: Mapping[str, Words], out: Path, *, resume: bool) -> dict[str, Words]:
    """name -> the words, and name_sha256 -> of what they hold, for the run's settings.

    The same content at another place is the same input, and keeps its first name. ValueError for other content.
    """
    saved = saved_inputs(out) if resume else {}
    noted: dict[str, Words] = {}
    for one in inputs:
        given = words[one.name]
        sha256 = _digest(one, given) if given else None
        if one.name in saved:
            _refuse_other(one, given, sha256, saved=saved, out=out)
            given = saved[one.name]
        noted |= {one.name: given, f"{one.name}_sha256": sha256}
    return noted


def saved_inputs(out: Path) -> dict[str, Words]:
    """The inputs in the config.json of a run, {} if there is none. FormatError for one that was edited to something else."""
    saved = saved_settings(out).get("inputs", {})
    strict_json.check(saved, strict_json.MapOf((str, [str], None)), file=out / "config.json", field="settings.inputs")
    return saved


def _digest(one: Input, words: Words) -> str | None:
    """The sha256 of all that an input holds; None of built-in text."""
    if one.kind == "files":
        paths = [Path(os.path.expanduser(word)) for word in words or () if word not in BUILT_IN]
    elif one.kind == "function":
        paths = [Path(os.path.expanduser(str(words).rpartition(":")[0]))]
    else:
        paths = sorted(find_model(str(words), name=one.shown).glob("*.safetensors"))
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest() if paths else None


def _refuse_other(one: Input, words: Words, sha256: str | None, *, saved: Mapping[str, Words], out: Path) -> None:
    """ValueError unless an input holds what it held when the run began."""
    before = saved.get(f"{one.name}_sha256")
    if sha256 == before and (sha256 or words == saved[one.name]):
        return
    now, then = _shown(words), _shown(saved[one.name])
    if now == then:
        found = f"{now} has changed since the run in {out} began with it"
        advice = "put back what it was, or start a new run in another folder"
    else:
        found = f"{now} is not that of the run in {out}, which began with {then}"
        advice = "leave it out to go on with the run's own, or start a new run in another folder"
    sums = f" (sha256 {before[:12]}..., now {sha256[:12]}...)" if isinstance(before, str) and sha256 else ""
    raise ValueError(f"{one.shown}: {found}{sums}; {advice}")


def _shown(words: Words) -> str:
    return " ".join(words) if isinstance(words, list) and words else str(words or "none")

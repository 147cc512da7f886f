"""The folder of a run: started, gone on with, finished.

refuse_used_folder(out, resume=...)      before any work is done
start_run(out, ...)   -> RunFolder       locked; removed again if nothing came of it
finish_run(run, ...)                     model/ and report.html
saved_settings(out)                      what an earlier start noted; `say_longer` if the run is to be longer now
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.models import Model
from tinyllm.recipes.events import Said, Show
from tinyllm.report import write_report
from tinyllm.storage import strict_json
from tinyllm.storage.names import change_texts, name_from_text
from tinyllm.storage.out_folder import refuse_unwritable
from tinyllm.tokenizers import Tokenizer
from tinyllm.training import EvalRecord, RunFolder, TrainConfig, holds_work, open_run
from tinyllm.training.checkpoint import list_checkpoints


@dataclass(frozen=True)
class TrainedModel:
    """What a run gives. `last`: its last evaluation on what was held out, None if there was none."""

    folder: Path
    model: Model
    tokenizer: Tokenizer
    last: EvalRecord | None = None


def saved_settings(folder: Path) -> dict[str, dict[str, Any]]:
    """The settings of the run in `folder`, by group, as JSON holds them; empty if there is none yet."""
    path = folder / "config.json"
    if not path.exists():
        return {}
    content = strict_json.read(path, schema=strict_json.MapOf(object))
    strict_json.check(content.get("settings"), strict_json.MapOf(strict_json.MapOf(object)), file=path, field="settings")
    return change_texts(content["settings"], name_from_text)


def refuse_used_folder(folder: Path, *, resume: bool) -> None:
    """ValueError if a new run cannot start in `folder`, before any work is done for it."""
    refuse_unwritable(folder)
    if holds_work(folder) and not resume:
        raise ValueError(f"out: {folder} already holds a run; add --resume to go on with it, or choose another name")


PREPARED = ("tokenizer", "data", "mixture.json", "samples.jsonl")  # what a run writes before its first step


@contextlib.contextmanager
def start_run(folder: Path, *, settings: Mapping[str, Any], tokenizer: Tokenizer, resume: bool = False) -> Iterator[RunFolder]:
    """The locked run folder, as `training.open_run`; what a start wrote that fails before its first step is taken away again."""
    before = set(folder.iterdir()) if folder.is_dir() else None  # somebody's .gitkeep, or what an earlier start left
    try:
        with open_run(folder, settings=settings, tokenizer=tokenizer, resume=resume) as run:
            try:
                if not resume:
                    _remove(folder / name for name in PREPARED)  # with other settings, perhaps
                if not (folder / "tokenizer" / "tokenizer.json").exists():
                    tokenizer.save(folder / "tokenizer")
                yield run
            except BaseException:
                _forget_start(folder, before)
                raise
    except OSError:  # in open_run itself: a full disk. Its ValueError would mean that the folder is another process's
        _forget_start(folder, before)
        raise


def _forget_start(folder: Path, before: set[Path] | None) -> None:
    """Remove what came into `folder` since `before` (None: the folder itself did), unless work was done meanwhile."""
    if not holds_work(folder):
        _remove([folder] if before is None else set(folder.iterdir()) - before)


def _remove(paths: Iterable[Path]) -> None:
    """Take files and folders away."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def finish_run(run: RunFolder, model: Model, tokenizer: Tokenizer) -> None:
    """Write model/, for from_pretrained and `tinyllm generate`, and report.html."""
    model.save_pretrained(run.path / "model", tokenizer)
    write_report(run.path)


def say_longer(out: Path, training: TrainConfig, show: Show) -> None:
    """Say what the learning rate does from here if the run in `out` is to be longer than was said when it began."""
    before = saved_settings(out).get("training", {}).get("max_steps")
    if not isinstance(before, int) or training.max_steps <= before:
        return
    saved = [int(path.name.split("-")[1]) for path in list_checkpoints(out / "checkpoints")]
    step = saved[-1] if saved else 0
    here, last = (f"{training.learning_rate_at(at):.2g}" for at in (step, training.max_steps))
    schedule = f"the {training.schedule} schedule over {training.max_steps:,} steps"
    text = f"From step {step:,} on the learning rate is that of {schedule}: {here} there, {last} at the end."
    show(Said(f"Longer: {before:,} steps become {training.max_steps:,}. {text}"))

"""The folder of one run, and the right to write in it.

    runs/<name>/  config.json  metrics.jsonl  checkpoints/  (later: model/, report.html)

One process at a time may train in a folder: two would interleave their logs and prune each other's checkpoints. The
lock is the operating system's (flock), so it vanishes with its holder, however that one died. A folder that already
holds a run is refused unless the run is to be resumed, and then the settings must be the same.
"""

import dataclasses
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinyllm.storage import FormatError, remove_leftovers, strict_json, write_file
from tinyllm.storage.lock import lock
from tinyllm.storage.names import change_texts, name_as_text
from tinyllm.storage.strict_json import MapOf
from tinyllm.tokenizers import Tokenizer
from tinyllm.training.checkpoint import (
    TrainState,
    latest_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    save_checkpoint,
    set_aside_damaged,
)
from tinyllm.training.environment import describe_environment
from tinyllm.training.metrics import Record, append_record, keep_records, read_records
from tinyllm.training.resume import refuse_changes, refuse_tokenizer, restore_checkpoint

_SCHEMA = {"settings": MapOf(object), "tokenizer_sha256": (str, None), "environment": MapOf(str)}


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A locked run folder. `resuming`: whether there may be a checkpoint to go on from."""

    path: Path
    settings: dict[str, Any]
    tokenizer: Tokenizer | None
    resuming: bool

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def metrics_path(self) -> Path:
        """The log, one JSON object a line."""
        return self.path / "metrics.jsonl"

    def restore(self, state: TrainState) -> Path | None:
        """Puts the latest whole checkpoint into `state` and cuts the log back to it; None if there is none."""
        latest = latest_checkpoint(self.checkpoints) if self.resuming else None
        if latest is None and list_checkpoints(self.checkpoints):
            warnings.warn(f"no whole checkpoint in {self.checkpoints}: the run starts over from step 0", stacklevel=2)
        set_aside_damaged(self.checkpoints, latest)
        if latest is not None:
            sha256 = _fingerprint(self.tokenizer)
            restore_checkpoint(latest, state, settings=self.settings, tokenizer_sha256=sha256)
        keep_records(self.metrics_path, lambda record: latest is not None and _happened(record, state))
        return latest

    def log(self, record: Record) -> None:
        """Adds a record to metrics.jsonl."""
        append_record(self.metrics_path, record)

    def save(self, state: TrainState, *, keep_last: int) -> Path:
        """Writes and verifies a checkpoint, then removes those no longer wanted."""
        if self.metrics_path.exists():
            with open(self.metrics_path, "rb+") as file:
                os.fsync(file.fileno())  # the log must not be behind the checkpoint after a power cut
        path = save_checkpoint(self.checkpoints, state, settings=self.settings, tokenizer=self.tokenizer)
        prune_checkpoints(self.checkpoints, keep_last=keep_last)
        return path


def holds_work(folder: Path) -> bool:
    """Whether `folder` holds what must not be overwritten: a checkpoint, a model, a log of steps, or settings of something else.

    A start that failed in its first step (diverged at once, say) leaves none of them, and can be repeated with other settings.
    """
    if any((folder / "checkpoints").glob("step-*")) or any((folder / name).exists() for name in ("model", "model.safetensors")):
        return True
    config = folder / "config.json"
    if config.exists():
        try:
            strict_json.read(config, schema=_SCHEMA)
        except FormatError:
            return True
    return any(record["event"] == "step" and record["step"] > 1 for record in read_records(folder / "metrics.jsonl"))


def _happened(record: dict[str, Any], state: TrainState) -> bool:
    """Whether a logged record lies before the state: an evaluation after the last step may still be to come."""
    pending = record["event"] == "evaluation" and record["step"] == state.step and state.val_loss is None
    return record["step"] <= state.step and not pending


def _fingerprint(tokenizer: Tokenizer | None) -> str | None:
    """The tokenizer's sha256, None without a tokenizer."""
    return None if tokenizer is None else tokenizer.fingerprint()


@contextmanager
def open_run(
    path: str | os.PathLike[str], *, settings: Mapping[str, Any], tokenizer: Tokenizer | None = None, resume: bool = False
) -> Iterator[RunFolder]:
    """Locks (and makes) a run folder while the block runs.

    settings  name -> dataclass or dict, all that decides the run: {"training": config, "model": model.config, ...}
    resume    go on with the run in the folder (which must have the same settings), or start if there is none yet

    ValueError if another process trains there, if the folder holds a run and `resume` is false, or if a setting differs.
    """
    folder = Path(path)
    plain = _plain(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        config = folder / "config.json"
        used = holds_work(folder)
        if used and not resume:
            raise ValueError(f"the folder {folder} already holds a run: resume it, or choose another folder")
        if not resume:
            for file in (config, folder / "metrics.jsonl"):
                file.unlink(missing_ok=True)  # of a start that failed
        if config.exists():
            content = strict_json.read(config, schema=_SCHEMA)
            refuse_changes(content["settings"], plain, where=folder)
            refuse_tokenizer(content["tokenizer_sha256"], _fingerprint(tokenizer), where=folder)
            if content["settings"] != plain:  # longer than before, or other checkpoints
                write_file(config, strict_json.dump({**content, "settings": plain}, indent=2))
        else:
            content = {"settings": plain, "tokenizer_sha256": _fingerprint(tokenizer), "environment": describe_environment()}
            write_file(config, strict_json.dump(content, indent=2))
        (folder / "checkpoints").mkdir(exist_ok=True)
        for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
            remove_leftovers(place)
        yield RunFolder(folder, plain, tokenizer, resuming=used)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back: dataclasses become objects, tuples lists."""
    parts: dict[str, Any] = dict(settings)
    parts = {name: part if isinstance(part, dict) else dataclasses.asdict(part) for name, part in parts.items()}
    return change_texts(json.loads(json.dumps(parts, allow_nan=False)), name_as_text)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; ValueError if another process (or another open_run here) does."""
    with open(folder / ".lock", "a+") as file:
        try:
            lock(file.fileno())
        except OSError:
            file.seek(0)
            holder = file.read(40).strip() or "unknown"
            raise ValueError(
                f"the folder {folder} is in use by another trainer (process {holder}): wait for it, or choose another folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield  # closing the file lets go of the lock

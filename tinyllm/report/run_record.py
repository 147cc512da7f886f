"""What a run folder tells: settings, measurements, samples, mixture, sizes; read with patience.

A report is most wanted when something went wrong, so only what every report needs is demanded (a folder, with at least
one measurement). A torn or foreign line is passed over and counted, a missing file leaves its part of the report out,
and a value that is no finite number counts as not measured.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.data import read_header
from tinyllm.storage import FormatError, safetensors, strict_json
from tinyllm.storage.json_lines import read_lines

Series = tuple[list[float], list[float]]  # steps and values, equally long


@dataclass(frozen=True)
class RunRecord:
    """A run as it can be read from its folder. Settings by group, e.g. settings["training"]["max_steps"]."""

    path: Path
    settings: dict[str, Any]
    environment: dict[str, Any]
    records: list[dict[str, Any]]  # of metrics.jsonl, by step
    samples: list[dict[str, Any]]  # of samples.jsonl, by step
    mixture: list[dict[str, Any]]  # rows as data.Mixture.rows gives them
    n_parameters: int | None
    tokens_per_byte: float | None  # of the validation text
    n_unreadable: int  # lines that were passed over

    def series(self, name: str) -> Series:
        """(steps, values) of the records that have it as a finite number."""
        found = [(float(record["step"]), value) for record in self.records if (value := finite(record.get(name))) is not None]
        return [step for step, _ in found], [value for _, value in found]

    def setting(self, name: str) -> Any:
        """The setting of that name, from "model", "training" or whichever group has it; None if none has."""
        first = [self.settings.get("model"), self.settings.get("training")]  # "data" has a vocab_size too: the one asked for
        groups = [group for group in (*first, self.settings, *self.settings.values()) if isinstance(group, dict)]
        return next((group[name] for group in groups if name in group), None)


def finite(value: Any) -> float | None:
    """`value` as a float if it is a finite number (True is not one), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_run(folder: str | os.PathLike[str]) -> RunRecord:
    """Read the run in `folder`. ValueError, saying what to do, if it is no folder or holds no measurement."""
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"run folder {str(path)!r} does not exist; give the folder that a training run wrote")
    records, n_torn = _read_lines(path / "metrics.jsonl")
    if not any(finite(value) is not None for record in records for key, value in record.items() if key != "step"):
        raise ValueError(
            f"run folder {str(path)!r} holds no measurements (metrics.jsonl is missing, empty or unreadable); "
            "train for at least one step, then write the report"
        )
    samples, n_torn_samples = _read_lines(path / "samples.jsonl")
    config = _read_object(path / "config.json")
    settings = config["settings"] if isinstance(config.get("settings"), dict) else config
    environment = config["environment"] if isinstance(config.get("environment"), dict) else {}
    shared = path, {k: v for k, v in settings.items() if v is not environment}, environment
    mixture = _read_mixture(path)
    return RunRecord(
        *shared, records, samples, mixture, _n_parameters(path, settings), _tokens_per_byte(path), n_torn + n_torn_samples
    )


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects of a file that have a whole "step", sorted by it, and the number of other lines."""
    records, n_other = [], 0
    for value in (line.value for line in (read_lines(path) if path.is_file() else ())):
        if isinstance(value, dict) and isinstance(value.get("step"), int) and finite(value["step"]) is not None:
            records.append(value)
        else:
            n_other += 1
    return sorted(records, key=lambda record: record["step"]), n_other


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _parse(text: bytes, path: Path) -> Any:
    """The JSON value, or None where there is none."""
    try:
        return strict_json.parse(text, file=path)
    except FormatError:
        return None


def _read_object(path: Path) -> dict[str, Any]:
    value = _parse(_read_bytes(path), path)
    return value if isinstance(value, dict) else {}


def _n_parameters(path: Path, settings: dict[str, Any]) -> int | None:
    """Counted from the shapes in a weight file: the finished model's, or else the newest checkpoint's.

    Without the biases of a model that has none: the file holds zeros in their place (models/gpt_layout.py).
    """
    model = settings.get("model")
    no_weight = (".bias",) if isinstance(model, dict) and model.get("bias") is False else ()
    for file in [path / "model" / "model.safetensors", *sorted(path.glob("checkpoints/step-*/model/model.safetensors"))[::-1]]:
        try:
            tensors = safetensors.read_header(file).tensors
            return sum(math.prod(info.shape) for name, info in tensors.items() if not name.endswith(no_weight))
        except (FormatError, OSError):
            continue
    return None


def _tokens_per_byte(path: Path) -> float | None:
    """From the header of the run's validation token file."""
    try:
        header = read_header(path / "data" / "validation.bin")
    except (FormatError, OSError):
        return None
    return header.n_tokens / header.n_bytes if header.n_bytes else None


def _read_mixture(path: Path) -> list[dict[str, Any]]:
    """The rows in mixture.json, as data.Mixture.rows gave them; none if the run has no such file."""
    rows = _parse(_read_bytes(path / "mixture.json"), path)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

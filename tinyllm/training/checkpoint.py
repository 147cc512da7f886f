"""A checkpoint: all a run needs to go on as if nothing had happened. The newest whole one counts; no pointer file can err.

step-00000100/  model/                 loadable by from_pretrained, tokenizer included
                optimizer.safetensors  its moments and step count
                gradients.safetensors  the sum so far, only if the run was stopped between two micro-batches
                source.safetensors     the arrays in the source's state, if it has any (answers not yet learned from, say)
                state.json             step, micro-step, position in the data, random generators, settings, environment
                manifest.json          sha256 of each file, written last: the folder is whole if they verify

It is read back before it gets its name, and only then are older ones removed: what was written can be read.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.data.batches import BatchSource, rng_state
from tinyllm.models.contract import HasLayout
from tinyllm.nn import Dropout, Module, has_lora
from tinyllm.optim import Optimizer
from tinyllm.storage import FormatError, manifest, remove_folder, safetensors, strict_json, write_file, write_folder
from tinyllm.storage.strict_json import MapOf, Optional
from tinyllm.tokenizers import Tokenizer
from tinyllm.training.environment import describe_environment
from tinyllm.training.metrics import StepMetrics

_NAME = re.compile(r"step-(\d{8,})(?:-micro-(\d{4,}))?")
_FORMAT, _VERSION = "tinyllm-checkpoint", 1
STATE_SCHEMA = {
    "format": str,
    "version": int,
    "step": int,
    "micro_step": int,
    "step_loss": float,
    "tokens_seen": int,
    "val_loss": (float, None),
    "best_val_loss": (float, None),
    "source": MapOf(object),
    "metrics": Optional(MapOf(MapOf(object))),
    "random": MapOf(MapOf(object)),
    "settings": MapOf(object),
    "tokenizer_sha256": (str, None),
    "environment": MapOf(str),
}


@dataclass
class TrainState:
    """What training changes. The loop moves it on, a checkpoint stores it, resume puts it back."""

    model: Module
    optimizer: Optimizer
    source: BatchSource
    step: int = 0  # optimizer steps done
    micro_step: int = 0  # micro-batches of the current step whose gradients are already added up
    step_loss: float = 0.0  # their loss
    source_state: dict[str, Any] | None = None  # where the source stood when the current step began
    tokens_seen: int = 0  # input tokens of all steps done
    val_loss: float | None = None  # of the present weights; None if not evaluated
    best_val_loss: float | None = None  # the lowest of all evaluations
    metrics: StepMetrics = field(default_factory=StepMetrics)  # what was told of the current step

    def __post_init__(self) -> None:
        self.generators = random_generators(self.model)  # found once: a step should not walk the model for them


def random_generators(model: Module) -> dict[str, np.random.Generator]:
    """Path -> generator of each dropout layer of the model, each generator once."""
    found: dict[int, tuple[str, np.random.Generator]] = {}
    for path, module in model.named_modules():
        if isinstance(module, Dropout):
            found.setdefault(id(module.rng), (path, module.rng))
    return dict(found.values())


def checkpoint_name(step: int, micro_step: int) -> str:
    """The folder's name; it sorts by time."""
    return f"step-{step:08d}" + (f"-micro-{micro_step:04d}" if micro_step else "")


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, whole or not, oldest first."""
    found = [(match, path) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name)) and path.is_dir()]
    return [path for match, path in sorted(found, key=lambda item: (int(item[0][1]), int(item[0][2] or 0)))]


def save_checkpoint(folder: Path, state: TrainState, *, settings: dict[str, Any], tokenizer: Tokenizer | None = None) -> Path:
    """Writes `folder`/step-.../ atomically, reads it back, and returns its path.

    OSError (a full disk, say) and FormatError (what was written cannot be read) leave all older checkpoints as they were.
    """
    path = folder / checkpoint_name(state.step, state.micro_step)
    if path.exists() and not is_whole(path):
        remove_folder(path)  # torn: it could not be loaded anyway, and its name is needed
    with write_folder(path, replace=True) as temporary:
        _save_model(temporary / "model", state.model, tokenizer)
        safetensors.save(temporary / "optimizer.safetensors", state.optimizer.state_dict())
        if state.micro_step:
            safetensors.save(temporary / "gradients.safetensors", gradients_of(state.model))
        content = _content(state, settings, tokenizer)
        content["source"], arrays = split_arrays(content["source"])
        if arrays:
            safetensors.save(temporary / "source.safetensors", arrays)
        write_file(temporary / "state.json", strict_json.dump(content, indent=1))
        read_state(temporary, name=path.name)
        for file in temporary.rglob("*.safetensors"):
            safetensors.load(file)
    manifest.verify(path)
    return path


def split_arrays(state: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A source's state with null in place of each array, and the arrays by the way to their place: "experience/tokens"."""
    plain: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for key, value in state.items():
        if isinstance(value, np.ndarray):
            plain[key], arrays[prefix + key] = None, value
        elif isinstance(value, Mapping):
            plain[key], inner = split_arrays(value, f"{prefix}{key}/")
            arrays |= inner
        else:
            plain[key] = value
    return plain, arrays


def join_arrays(state: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The other way round: puts each array back in its place. KeyError or TypeError if there is no such place."""
    for way, array in arrays.items():
        *outer, last = way.split("/")
        place = state
        for key in outer:
            place = place[key]
        if place[last] is not None:
            raise KeyError(f"{way}, a place for an array")
        place[last] = array
    return state


def _save_model(folder: Path, model: Module, tokenizer: Tokenizer | None) -> None:
    """The model in its own layout; weights by name if it has none, or adapters, for which no published layout has a place."""
    if isinstance(model, HasLayout) and not has_lora(model):
        model.save_pretrained(folder, tokenizer)
    else:
        folder.mkdir()
        safetensors.save(folder / "model.safetensors", model.state_dict())


def load_weights(folder: Path, model: Module) -> dict[str, np.ndarray]:
    """Name -> array for a model of the same kind as `model`, as `_save_model` wrote them."""
    if isinstance(model, HasLayout) and not has_lora(model):
        return type(model).from_pretrained(folder).state_dict()
    return safetensors.load(folder / "model.safetensors")


def gradients_of(model: Module) -> dict[str, np.ndarray]:
    """Name -> gradient, for the weights that have one."""
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def _content(state: TrainState, settings: dict[str, Any], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """What state.json holds."""
    plain = ("step", "micro_step", "step_loss", "tokens_seen", "val_loss", "best_val_loss")
    return {
        "format": _FORMAT,
        "version": _VERSION,
        **{name: getattr(state, name) for name in plain},
        "source": state.source_state if state.micro_step else state.source.state(),
        "metrics": state.metrics.state(),
        "random": {path: rng_state(rng) for path, rng in state.generators.items()},
        "settings": settings,
        "tokenizer_sha256": tokenizer.fingerprint() if tokenizer is not None else None,
        "environment": describe_environment(),
    }


def read_state(checkpoint: Path, *, name: str | None = None) -> dict[str, Any]:
    """state.json, checked. FormatError names what is wrong. `name`: the checkpoint's, while its folder has another one."""
    file = checkpoint / "state.json"
    content = strict_json.read(file, schema=STATE_SCHEMA)
    for key, expected in (("format", _FORMAT), ("version", _VERSION)):
        if content[key] != expected:
            raise FormatError(file, field=key, expected=repr(expected), found=content[key])
    name = name or checkpoint.name
    if checkpoint_name(content["step"], content["micro_step"]) != name:
        found = f"step {content['step']}, micro-step {content['micro_step']}"
        raise FormatError(file, field="step", expected=f"that of the folder's name, {name}", found=found)
    return content


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of the checkpoint is there and unchanged; if not, a warning names what is wrong."""
    try:
        manifest.verify(checkpoint)
    except (FormatError, OSError) as error:
        warnings.warn(f"skipping checkpoint {checkpoint.name}, which is torn or was edited: {error}", stacklevel=2)
        return False
    return True


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that verifies, or None. Each damaged one on the way is named in a warning."""
    return next((path for path in reversed(list_checkpoints(folder)) if is_whole(path)), None)


def set_aside_damaged(folder: Path, latest: Path | None) -> None:
    """Renames what is newer than the latest whole checkpoint to damaged-step-...: it must not count as one to be kept."""
    checkpoints = list_checkpoints(folder)
    for path in checkpoints[checkpoints.index(latest) + 1 if latest else 0 :]:
        aside = path.with_name("damaged-" + path.name)
        if aside.exists():
            remove_folder(aside)
        path.rename(aside)


def prune_checkpoints(folder: Path, *, keep_last: int) -> list[Path]:
    """Removes all but the newest `keep_last` and the one with the lowest validation loss; returns what it removed."""
    checkpoints = list_checkpoints(folder)
    losses = {path: loss for path in checkpoints if (loss := _val_loss(path)) is not None}
    kept = {*checkpoints[-keep_last:], *([min(losses, key=losses.__getitem__)] if losses else [])}
    removed = [path for path in checkpoints if path not in kept]
    for path in removed:
        remove_folder(path)
    return removed


def _val_loss(checkpoint: Path) -> float | None:
    """The validation loss noted in a checkpoint; None if there is none, or if it cannot be read."""
    try:
        return read_state(checkpoint)["val_loss"]
    except (FormatError, OSError):
        return None

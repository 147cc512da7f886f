"""Where a model is: people name the folder of a run, the model's own folder, or one checkpoint; all of them should do.

runs/mine                               -> runs/mine/model, or the newest whole checkpoint while the run goes on
runs/mine/model                         -> itself
runs/mine/checkpoints/step-00000100     -> its model/
runs/quickstart, runs/quickstart/tuned  -> the assistant, or the model of one stage

So whatever takes a model takes a run, and whatever takes a tokenizer takes a model or a run:

    folder = find_model("runs/mine")                      # GPT.from_pretrained(folder), load_tokenizer_for(folder)
    tokenizer = load_tokenizer(find_tokenizer("runs/mine"))
"""

import os
from pathlib import Path

from tinyllm.training.checkpoint import latest_checkpoint

# What makes a folder one with a model or a tokenizer. Whether it is of a kind that can be read, its reader says.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model", "vocab.txt")


def find_model(path: str | os.PathLike[str], *, name: str = "model") -> Path:
    """The folder with config.json and model.safetensors that `path` stands for: a model, a run, a stage or a checkpoint.

    name  the argument that an error speaks of
    ValueError, which says what to give instead, if there is no model. Reads no weights.
    """
    folder = _named(path, name)
    if not folder.exists():
        raise ValueError(f"{name}: {folder} does not exist; give a model's folder or a run's, such as runs/mine")
    for candidate in (folder, folder / "model"):
        if any((candidate / file).is_file() for file in WEIGHTS):
            return _whole(candidate, folder, name)
    if (folder / "checkpoints").is_dir():
        latest = latest_checkpoint(folder / "checkpoints")
        if latest is None:
            raise ValueError(f"{name}: the run in {folder} has saved no checkpoint yet; train it further, then try again")
        return _whole(latest / "model", folder, name)
    if (folder / "adapter_config.json").is_file():
        advice = "load them on their model with models.load_adapters, merge them and save that"
        raise ValueError(f"{name}: {folder} holds LoRA adapters only, not the model they belong to; {advice}")
    if stages := _stages(folder):
        raise ValueError(f"{name}: {folder} is not finished, but holds {', '.join(map(str, stages))}; give one of these")
    raise ValueError(f"{name}: {folder} holds no model (no model.safetensors) and no run; give a folder that does")


def run_of(model: Path) -> Path | None:
    """The run that the model's folder `model` (from `find_model`) belongs to, None if it stands by itself."""
    places = [model.parent, model.parents[2]] if len(model.parents) > 2 else [model.parent]  # model/, or checkpoints/step/model/
    return next((place for place in places if (place / "config.json").is_file() and (place / "metrics.jsonl").is_file()), None)


def _named(path: str | os.PathLike[str], name: str) -> Path:
    """The path, with ~ made whole. ValueError for an empty one: it would mean the folder one stands in."""
    if not os.fspath(path):
        raise ValueError(f"{name}: the name is empty; give a folder, or '.' for the one you are in")
    return Path(os.path.expanduser(path))


def find_tokenizer(path: str | os.PathLike[str], *, name: str = "tokenizer") -> Path:
    """The tokenizer.json, or the folder with it, that `path` stands for: a tokenizer, a model, a run, a stage or a checkpoint.

    ValueError, which says what to give instead, if there is none.
    """
    place = _named(path, name)
    if not place.exists():
        raise ValueError(f"{name}: {place} does not exist; give a folder with a tokenizer.json, a model's or a run's")
    if place.is_file():
        return place
    for candidate in (place, place / "model", place / "tokenizer"):
        if any((candidate / file).is_file() for file in TOKENIZERS):
            return candidate
    raise ValueError(f"{name}: {place} holds no tokenizer.json, and is no run that has one; give a folder that does")


def _stages(folder: Path) -> list[Path]:
    """The folders right below that hold a finished model: the stages of a journey that was stopped."""
    return sorted(path.parent.parent for path in folder.glob("*/model/model.safetensors")) if folder.is_dir() else []


def _whole(model: Path, given: Path, name: str) -> Path:
    """`model` itself; ValueError for that of a checkpoint with a value model beside it, or with LoRA's matrices in it."""
    if (model.parent / "state.json").is_file() and not (model / "config.json").is_file():
        advice = "go on with that run (--resume) until it has written model/, then try again"
        raise ValueError(f"{name}: {given} holds weights in training, which are no model by themselves; {advice}")
    return model

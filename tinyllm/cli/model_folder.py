"""Where a model is: people name the folder of a run, the model's own folder, or one checkpoint; all three should do.

runs/mine                               -> runs/mine/model, or the newest whole checkpoint while the run goes on
runs/mine/model                         -> itself
runs/mine/checkpoints/step-00000100     -> its model/
"""

from __future__ import annotations

import os
from pathlib import Path


def find_model(path: str | Path, *, name: str = "model") -> Path:
    """The folder with config.json and model.safetensors that `path` stands for. ValueError, with `name`, if there is none."""
    folder = Path(os.path.expanduser(path))
    if not folder.exists():
        raise ValueError(f"{name}: {folder} does not exist; give a model's folder or a run's, such as runs/mine")
    for candidate in (folder, folder / "model"):
        if (candidate / "model.safetensors").is_file():
            return _whole(candidate, folder, name)
    if (folder / "checkpoints").is_dir():
        from tinyllm.training import latest_checkpoint

        latest = latest_checkpoint(folder / "checkpoints")
        if latest is None:
            raise ValueError(f"{name}: the run in {folder} has saved no checkpoint yet; train it further, then try again")
        return _whole(latest / "model", folder, name)
    if (folder / "adapter_config.json").is_file():
        advice = "load them on their model with models.load_adapters, merge them and save that"
        raise ValueError(f"{name}: {folder} holds LoRA adapters only, not the model they belong to; {advice}")
    raise ValueError(f"{name}: {folder} holds no model (no model.safetensors) and no run; give a folder that does")


def _whole(model: Path, given: Path, name: str) -> Path:
    """`model` itself; ValueError for that of a checkpoint with a value model beside it, or with LoRA's matrices in it."""
    if (model.parent / "state.json").is_file() and not (model / "config.json").is_file():
        advice = "go on with that run (--resume) until it has written model/, then try again"
        raise ValueError(f"{name}: {given} holds weights in training, which are no model by themselves; {advice}")
    return model

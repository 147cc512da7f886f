"""Where a model is: people name the folder of a run, the model's own folder, or one checkpoint; all three should do.

    runs/mine                               -> runs/mine/model, or the newest whole checkpoint while the run goes on
    runs/mine/model                         -> itself
    runs/mine/checkpoints/step-00000100     -> its model/
"""

from __future__ import annotations

import os
from pathlib import Path


def find_model(path: str | Path) -> Path:
    """The folder with config.json and model.safetensors that `path` stands for. ValueError if there is none."""
    folder = Path(os.path.expanduser(path))
    if not folder.exists():
        raise ValueError(f"model: {folder} does not exist; give a model's folder or a run's, such as runs/mine")
    for candidate in (folder, folder / "model"):
        if (candidate / "model.safetensors").is_file():
            return candidate
    if (folder / "checkpoints").is_dir():
        from tinyllm.training import latest_checkpoint

        if latest := latest_checkpoint(folder / "checkpoints"):
            return latest / "model"
        raise ValueError(f"model: the run in {folder} has saved no checkpoint yet; train it further, then try again")
    raise ValueError(f"model: {folder} holds no model (no model.safetensors) and no run; give a folder that does")

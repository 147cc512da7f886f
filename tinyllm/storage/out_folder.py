"""Where results go: a folder that cannot be written is refused before the work, not after it."""

import os
from pathlib import Path


def is_free(folder: Path) -> bool:
    """Whether nothing would be mixed with what comes into `folder`: it is not there, or holds hidden files (.gitkeep) at most."""
    return not folder.is_dir() or all(path.name.startswith(".") for path in folder.iterdir())


def free_folder(wanted: Path) -> Path:
    """`wanted`, or wanted-2, wanted-3 ...: the first that is not there yet."""
    number, folder = 1, wanted
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def refuse_unwritable(folder: Path) -> None:
    """ValueError unless `folder` is one that may be written to, or can be made. Makes nothing."""
    place = Path(os.path.abspath(folder))
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"out: {folder} cannot be a folder, since {place} is a file; choose another name")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"out: {folder} cannot be written: no permission in {place}; choose another place")

"""The list of a folder's files with their sizes and sha256 sums, written last: a folder that verifies is whole.

Many files cannot be written in one atomic step, but their list can. A reader trusts a folder only if every file the
manifest names is there, has its size, and hashes to its sum; so a torn write, a lost file and a flipped bit all show.
The sums guard against accidents, not against an enemy, who would recompute them. Hash: FIPS 180-4.
"""

import hashlib
import os
from pathlib import Path, PurePosixPath

from tinyllm.storage import strict_json
from tinyllm.storage.strict_json import FormatError, MapOf

NAME = "manifest.json"
_SCHEMA = {"format": str, "version": int, "files": MapOf({"sha256": str, "size": int})}
_FORMAT, _VERSION = "tinyllm-manifest", 1


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """The hexadecimal sha256 of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files_below(folder: Path) -> list[str]:
    """Every file below `folder` but the manifest itself, as sorted POSIX paths relative to it."""
    paths = (Path(root, name).relative_to(folder).as_posix() for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in paths if path != NAME)


def build(folder: str | os.PathLike[str]) -> bytes:
    """The manifest's bytes for the files that stand in `folder` now."""
    folder = Path(folder)
    files = {
        name: {"sha256": sha256_of_file(folder / name), "size": (folder / name).stat().st_size} for name in _files_below(folder)
    }
    return strict_json.dump({"format": _FORMAT, "version": _VERSION, "files": files}, indent=1)


def read(folder: str | os.PathLike[str]) -> dict[str, dict[str, str | int]]:
    """The files a manifest lists: name -> {"sha256", "size"}. FormatError if it is missing or malformed."""
    path = Path(folder) / NAME
    try:
        content = strict_json.read(path, schema=_SCHEMA)
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError(path, field="manifest", expected="a file", found="nothing: the folder is not whole") from None
    for field, expected in (("format", _FORMAT), ("version", _VERSION)):
        if content[field] != expected:
            raise FormatError(path, field=field, expected=repr(expected), found=content[field])
    for name in content["files"]:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
            raise FormatError(path, field="files", expected="names inside the folder", found=name)
    return content["files"]


def verify(folder: str | os.PathLike[str]) -> None:
    """Raises FormatError unless every listed file is there with its size and sha256. Other files are not looked at."""
    folder = Path(folder)
    for name, entry in read(folder).items():
        path = folder / name
        if not path.is_file():
            raise FormatError(path, field="file", expected="to be there", found="nothing")
        size = path.stat().st_size
        if size != entry["size"]:
            raise FormatError(path, field="size", expected=f"{entry['size']} bytes", found=f"{size} bytes")
        digest = sha256_of_file(path)
        if digest != entry["sha256"]:
            raise FormatError(path, field="sha256", expected=str(entry["sha256"]), found=digest)


def unlisted(folder: str | os.PathLike[str]) -> list[str]:
    """Files in `folder` that its manifest does not list: all of them if there is no readable manifest."""
    present = _files_below(Path(folder))
    try:
        listed = read(folder)
    except FormatError:
        return present
    return [name for name in present if name not in listed]

"""Writing so that a reader, or a power cut, sees the old file or the new one and never a half.

The recipe is the old one of databases and mail servers: write a temporary sibling (same folder, therefore the same
filesystem), flush it to the disk, rename it over the target, flush the parent folder. Rename is atomic (POSIX rename);
without the fsync before it, the name may reach the disk before the bytes do (Pillai et al. 2014, "All File Systems
Are Not Created Equal", section 4), which gives a correctly named file full of zeros.
A whole folder is written the same way, with a manifest of sha256 sums as its last file.
"""

import ctypes
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tinyllm.storage import manifest

_LEFTOVER = re.compile(r"\.(?:tmp|trash)-.+-(\d+)-[0-9a-f]{8}")
_RENAME_EXCHANGE = 2  # renameat2(2): swap two names in one step


def write_file(
    path: str | os.PathLike[str], content: bytes | Iterable[Any], *, beginning: Callable[[], bytes] | None = None
) -> None:
    """Puts `content` (bytes, or buffers written one after another) at `path`, whole or not at all.

    The new bytes live in a new file, so arrays that map the old one stay valid. On any failure the temporary file is
    removed and the old file is untouched. OSError on a full disk says how many bytes were missing where. `beginning` is called
    when all is written, and gives bytes to put over the first ones: a header that only the end of the content can tell.
    """
    target = os.path.realpath(path)  # a symbolic link keeps pointing where it points
    temporary = _sibling(target, "tmp")
    try:
        _write_and_sync(temporary, [content] if isinstance(content, bytes) else content, beginning)
        os.replace(temporary, target)
        sync_folder(os.path.dirname(target))
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise _explain(error, path) from error
        raise


def _sibling(path: str | os.PathLike[str], kind: str) -> str:
    """A fresh hidden name beside `path`, carrying our process id so that leftovers of the dead can be told."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(folder, f".{kind}-{name}-{os.getpid()}-{secrets.token_hex(4)}")


def _write_and_sync(path: str, chunks: Iterable[Any], beginning: Callable[[], bytes] | None = None) -> None:
    """Creates `path`, writes every buffer in full, and flushes it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            while len(view):  # write may take less than it was given
                view = view[os.write(descriptor, view) :]
        if beginning:
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, beginning())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """The error with our file's name in it, if it had none or a temporary one; for a full disk also how much is free."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        ours = any(_LEFTOVER.fullmatch(part) for part in Path(os.fsdecode(error.filename or "")).parts)  # a name nobody asked for
        named = error.filename and not ours
        return error if named or error.errno is None else OSError(error.errno, error.strerror, str(path))
    try:
        free = f"{shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free} bytes are free"
    except OSError:
        free = "free space unknown"
    text = f"the disk is full ({free}); no half-written file was left behind. Make room for"
    return OSError(error.errno, text, str(path))


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Flushes a folder's list of names, so that a rename in it survives a power cut (not possible on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network filesystems cannot, and say so
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def write_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yields a temporary sibling folder to fill; on leaving it becomes `path`, synced and with a manifest, or vanishes.

    An existing `path` is refused (FileExistsError) unless `replace` is true and it holds nothing but what its own
    manifest lists: a folder with somebody's other files in it is never taken away.
    """
    target = Path(os.path.realpath(path))
    _refuse_occupied(target, replace)
    temporary = Path(_sibling(target, "tmp"))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _sync_tree(temporary)
        _write_and_sync(str(temporary / manifest.NAME), [manifest.build(temporary)])
        sync_folder(temporary)
        _put_in_place(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            shutil.rmtree(temporary)
        if isinstance(error, OSError):
            raise _explain(error, path) from error
        raise


def _refuse_occupied(target: Path, replace: bool) -> None:
    """FileExistsError if something stands at `target` that we must not take away."""
    if not os.path.lexists(target):
        return
    if not replace or not target.is_dir():
        raise FileExistsError(errno.EEXIST, "the folder exists already; choose another name or remove it", str(target))
    foreign = manifest.unlisted(target)
    if foreign:
        text = f"will not replace this folder: it holds {foreign[0]!r}, which its manifest does not list"
        raise FileExistsError(errno.EEXIST, text, str(target))


def _sync_tree(folder: Path) -> None:
    """Flushes every file and folder below `folder`."""
    for root, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(root, name), os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(root)


def _put_in_place(temporary: Path, target: Path) -> None:
    """Renames `temporary` to `target`; an existing target is swapped out in one step where the system can."""
    if not target.exists():
        os.rename(temporary, target)
        sync_folder(target.parent)
        return
    if not _exchange(temporary, target):  # no swap here: for an instant neither name exists
        trash = _sibling(target, "trash")
        os.rename(target, trash)
        os.rename(temporary, target)
        temporary = Path(trash)
    sync_folder(target.parent)
    shutil.rmtree(temporary)


def _exchange(first: Path, second: Path) -> bool:
    """Swaps two names atomically (Linux renameat2); False where the system has no such call."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    at_cwd = -100
    return renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), _RENAME_EXCHANGE) == 0


def remove_folder(path: str | os.PathLike[str]) -> None:
    """Deletes a folder; a crash half-way leaves a hidden leftover, never a folder with some files missing."""
    trash = _sibling(path, "trash")
    os.rename(path, trash)
    sync_folder(os.path.dirname(trash))
    shutil.rmtree(trash)


def remove_leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Deletes what interrupted writes of dead processes left in `folder`; returns the names removed."""
    removed = []
    for entry in sorted(os.scandir(folder), key=lambda e: e.name) if os.path.isdir(folder) else []:
        match = _LEFTOVER.fullmatch(entry.name)
        if match and (int(match[1]) == os.getpid() or not process_is_alive(int(match[1]))):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
            removed.append(entry.name)
    return removed


def process_is_alive(process_id: int) -> bool:
    """Whether a process with this id runs on this machine (signal 0 asks without disturbing)."""
    if os.name == "nt":  # there, os.kill would end the process: claim life, leave the leftover
        return True
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True

"""What went wrong, in words for a person, and what to do about it, where the system itself says no more than a number."""

import difflib
import errno
import os
from collections.abc import Iterable

# What to do about an error whose text is only the system's.
ADVICE = {
    errno.ENOENT: "check the name",
    errno.EACCES: "check the permissions, or choose another place",
    errno.EPERM: "check the permissions, or choose another place",
    errno.EROFS: "choose another place",
    errno.EISDIR: "that is a folder, a file is wanted",
    errno.ENOTDIR: "that is a file, a folder is wanted",
    errno.EEXIST: "choose another name",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "your share of the disk is used up; make room",
    errno.EFBIG: "the system limits the size of files here (see ulimit -f)",
    errno.ELOOP: "that is a link to itself",
    errno.ENAMETOOLONG: "choose a shorter one",
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that looks most like `word`, or None when nothing comes close."""
    matches = difflib.get_close_matches(word[:200], list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """The nearest known word as an addition to an error's text, "" when nothing comes close."""
    near = nearest(word, known)
    return f" (did you mean {near!r}?)" if near else ""


def explain(error: BaseException) -> str:
    """What went wrong, in one line, for the reader of a terminal."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        advice = ADVICE.get(error.errno) if error.strerror == os.strerror(error.errno) else None
        return f"{text}; {advice}" if advice else text
    if isinstance(error, MemoryError):
        return f"not enough memory ({str(error) or 'the system gave none'}); use a smaller batch or model"
    return " ".join(str(error).split("\n")) or type(error).__name__

"""A file's lock is the operating system's, so it vanishes with its holder, however that one died."""

import os

_FAR_BEHIND = 1 << 30  # the byte that is locked on Windows: what stands in the file can still be read


def lock(descriptor: int, *, wait: bool = False) -> None:
    """Locks an open file until it is closed. OSError if it is held by another process, or by another opening of it here.

    wait  stand in line until it is free
    """
    if os.name == "nt":
        import msvcrt

        os.lseek(descriptor, _FAR_BEHIND, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

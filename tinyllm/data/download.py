"""Text from the web, fetched once and kept in a per-user cache, so that a second run needs no network.

Only http and https, with a size limit and a time limit. The cache holds complete files alone: the bytes are counted
against the server's Content-Length before they are written, and the file appears under its name in one rename.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tinyllm.storage import atomic

Progress = Callable[[int, int | None], None]  # called with (bytes so far, bytes in all or None when unknown)

MAX_DOWNLOAD_BYTES = 4 << 30
TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 1 << 18


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and the user is in no list of users: a bare container
        raise ValueError("there is no home folder to keep downloads in; set TINYLLM_CACHE to a folder for them") from None


def cache_folder() -> Path:
    """Where downloads are kept: the user's cache folder by each system's own custom, with TINYLLM_CACHE in front."""
    if chosen := os.environ.get("TINYLLM_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = _home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")
    return base / "tinyllm"


def cached_path(url: str, folder: Path | None = None) -> Path:
    """The file that keeps `url`: a hash of the whole address, then its last part so that people recognise it."""
    last_part = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", last_part).strip(".-")[-80:] or "index"
    return (folder or cache_folder()) / "downloads" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{readable}"


def download(url: str, *, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """The path of the cached copy of `url`, fetched first if it is not there yet.

    Raises ValueError in one line if the address is not http(s), cannot be reached, breaks off, or is too large; OSError
    if the cache cannot be written.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"url must begin with http:// or https://, got {url!r}")
    path = cached_path(url, folder)
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        atomic.write_file(path, _chunks(url, progress))
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is also the server's answer, with an open connection
        elif getattr(error, "filename", None):
            raise  # the disk's fault, not the network's: it is full, say
        reason = getattr(error, "reason", None) or error
        raise ValueError(
            f"could not download {url}: {' '.join(str(reason).split())}; check the address and the network, "
            f"or save the file as {path} yourself"
        ) from error
    return path


def _chunks(url: str, progress: Progress | None) -> Iterator[bytes]:
    address = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")  # spaces and letters beyond ASCII as %20 and so on
    request = urllib.request.Request(address, headers={"User-Agent": "tinyllm", "Accept-Encoding": "identity"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        declared = response.headers.get("Content-Length", "")
        total = int(declared) if declared.isdigit() else None
        n_bytes = 0
        while chunk := response.read(_CHUNK_BYTES):
            n_bytes += len(chunk)
            if n_bytes > MAX_DOWNLOAD_BYTES:
                raise ValueError(f"{url} is larger than {MAX_DOWNLOAD_BYTES >> 30} GiB; download and cut it yourself")
            if progress:
                progress(n_bytes, total)
            yield chunk
    if total is not None and n_bytes != total:
        raise OSError(f"the connection closed after {n_bytes} of {total} bytes")

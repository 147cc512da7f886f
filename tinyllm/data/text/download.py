"""Text from the web, fetched once and kept in a per-user cache, so that a second run needs no network.

Only http and https, with a size limit and a time limit. The cache holds complete files alone: the bytes are counted
against the server's Content-Length before they are written, and the file appears under its name in one rename.
"""

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
from typing import Any

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
    return (folder or cache_folder()) / "downloads" / f"{hashlib.sha256(os.fsencode(url)).hexdigest()[:16]}-{readable}"


def download(url: str, *, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """The path of the cached copy of `url`, fetched first if it is not there yet.

    Raises ValueError in one line if the address is not http(s), cannot be reached, breaks off, is too large, or sends us
    elsewhere than to the web (NetworkError); OSError if the cache cannot be written. Then no file is left.
    """
    _check_address(url)
    path = cached_path(url, folder)
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        atomic.write_file(path, _chunks(url, progress))
    except NetworkError as error:
        raise NetworkError(
            f"could not download {url}: {error}; check the address and the network, or save the file as {path} yourself"
        ) from None
    return path


class NetworkError(ValueError):
    """The network's fault, or the server's: not the disk's."""


def _check_address(url: str) -> None:
    """ValueError for an address that cannot be one of a text on the web."""
    try:
        parts = urllib.parse.urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that does not close
        parts, whole = urllib.parse.SplitResult("", "", "", "", ""), "://" in url
    if parts.scheme not in ("http", "https") or not whole:
        raise ValueError(f"url must begin with http:// or https:// and the name of a host, got {url!r}")


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to another page of the web alone, and never from a protected connection to an open one."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """As in the base class, after a look at where it goes."""
        before, after = (urllib.parse.urlsplit(address).scheme for address in (req.full_url, newurl))
        if after not in ("http", "https") or (before == "https" and after == "http"):
            raise NetworkError(f"the server sends us from {before} to {newurl[:200]!r}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _chunks(url: str, progress: Progress | None) -> Iterator[bytes]:
    """The content in pieces, each shown when it has come."""
    n_bytes = 0
    for chunk, total in _fetch(url):
        n_bytes += len(chunk)
        if progress:
            progress(n_bytes, total)
        yield chunk


def _fetch(url: str) -> Iterator[tuple[bytes, int | None]]:
    """(piece, size of the whole if the server says it). What the network does wrong is a NetworkError, in words.

    The pieces are written by the caller, so an OSError of the disk does not come through here.
    """
    address = urllib.parse.quote(os.fsencode(url), safe="%/:=&?~#+!$,;'@()*[]")  # spaces, letters beyond ASCII as %20 and so on
    request = urllib.request.Request(address, headers={"User-Agent": "tinyllm", "Accept-Encoding": "identity"})
    try:
        with urllib.request.build_opener(_WebOnly).open(request, timeout=TIMEOUT_SECONDS) as response:
            declared = response.headers.get("Content-Length", "")
            total = int(declared) if declared.isdigit() else None
            n_bytes = 0
            while chunk := response.read(_CHUNK_BYTES):
                n_bytes += len(chunk)
                if n_bytes > MAX_DOWNLOAD_BYTES:
                    raise NetworkError(f"it is larger than {MAX_DOWNLOAD_BYTES >> 30} GiB")
                yield chunk, total
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is also the server's answer, with an open connection
        reason = getattr(error, "reason", None) or error
        words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise NetworkError(" ".join(str(words).split())) from error
    if total is not None and n_bytes != total:
        raise NetworkError(f"the connection closed after {n_bytes} of {total} bytes")

"""From an application to a running server: a socket of our own, the address to open, and uvicorn behind it.

The server is bound to this machine (127.0.0.1). Another address is a decision: it demands a token chosen by its owner, since
whoever can reach the address can then try one, and plain HTTP hides nothing from the network in between.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
from dataclasses import dataclass, replace
from typing import Any

from tinyllm.server.security import Access, App
from tinyllm.storage import install_command

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Launch:
    """A bound socket that listens already, who may connect to it, and the address for the browser."""

    listener: socket.socket
    access: Access
    host: str

    @property
    def port(self) -> int:
        """The port, chosen by the system if 0 was asked for."""
        return int(self.listener.getsockname()[1])

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return _is_loopback(self.host)

    @property
    def address(self) -> str:
        """The address to open, with the token; it is to be shown once, to the owner."""
        return f"http://{_written(self.host)}:{self.port}/?token={self.access.token}"

    def __enter__(self) -> Launch:
        return self

    def __exit__(self, *exc: object) -> None:
        self.listener.close()

    def server_for(self, app: App) -> Any:
        """A uvicorn.Server for this launch; its `run(sockets=[launch.listener])` blocks."""
        import uvicorn

        config = uvicorn.Config(
            app, lifespan="off", ws="none", http="h11", log_level="error", access_log=False, proxy_headers=False,
            server_header=False, timeout_keep_alive=15, timeout_graceful_shutdown=5,
        )  # fmt: skip
        return uvicorn.Server(config)

    def serve(self, app: App) -> None:
        """Answers until SIGINT or SIGTERM, then finishes what it is doing. The signal is raised again afterwards."""
        self.server_for(app).run(sockets=[self.listener])


def require_extra() -> None:
    """ValueError unless what the extra `serve` installs is there."""
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"{name} is missing; install the extra serve: {install_command('serve')}")


def open_launch(host: str = LOOPBACK, port: int = 0, *, token: str | None = None) -> Launch:
    """Binds the address and makes the token. ValueError for a host that needs a token; OSError if the port is taken.

    host  this machine by default; another address of this machine, as browsers elsewhere will write it, needs `token`
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port is {port}; expected 0 to 65535, 0 for any free one")
    if host in ("0.0.0.0", "::", ""):
        raise ValueError(f"host is {host!r}, every address at once; give the one that browsers will write, such as 192.168.1.5")
    if not _is_loopback(host) and token is None:
        raise ValueError(f"host is {host!r}, which others can reach: choose a token of your own (--token) that they need")
    access = Access(frozenset()) if token is None else Access(frozenset(), token=token)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"{reason}, port {port} of {host}: choose another port, or host") from None
    bound = listener.getsockname()[1]
    names = {host, "localhost", LOOPBACK, "::1"} if _is_loopback(host) else {host}
    endings = (f":{bound}", "") if bound == 80 else (f":{bound}",)  # browsers leave out the port that http has anyway
    hosts = frozenset(_written(name).lower() + ending for name in names for ending in endings)
    return Launch(listener, replace(access, hosts=hosts, cookie=f"tinyllm-{bound}"), host)


def _is_loopback(host: str) -> bool:
    """Whether the name or address means this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _written(host: str) -> str:
    """The host as it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host

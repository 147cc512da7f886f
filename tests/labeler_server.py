"""A labeler's server in this process, and ways to ask it: straight through ASGI, or over a socket."""

import asyncio
import http.client
import json
import threading
import time
import urllib.parse

from tinyllm.labels import Item
from tinyllm.server import open_launch
from tinyllm.server.labeler_app import make_app
from tinyllm.server.security import PAGE_HEADER

HOST = "127.0.0.1:8642"
NO = [False] * 5


def make_items(n):
    return [Item(f"item-{i}", f"prompt {i}", tuple(f"answer {i}.{k}" for k in range(5))) for i in range(n)]


def said(shown, key="key-00000001", *, labeler="anna", ratings=(1, 2, 3, 4, 5), **change):
    """The body of a label as the page would send it."""
    body = {
        "labeler": labeler,
        "position": shown["position"],
        "task": shown["task"],
        "key": key,
        "ratings": None if ratings is None else list(ratings),
        "toxic": NO,
        "made_up": NO,
        "not_following": NO,
    }
    return {**body, **change}


class Client:
    """Asks an ASGI application directly. Headers of an allowed request are there unless replaced; None leaves one out."""

    def __init__(self, app, access, host=HOST):
        self.app, self.access = app, access
        self.headers = {
            "host": host,
            "cookie": f"{access.cookie}={access.token}",
            PAGE_HEADER: access.page_token,
            "content-type": "application/json",
        }

    def ask(self, method, path, body=b"", *, pieces=None, more=(), **headers):
        """(status, headers, body). `more`: further (name, value) pairs, so that a header can come twice."""
        given = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        target, _, query = path.partition("?")
        raw = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in (*given.items(), *more) if v is not None]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": urllib.parse.unquote(target),
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": raw,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8642),
            "state": {},
        }
        parts = list(pieces) if pieces is not None else [body if isinstance(body, bytes) else json.dumps(body).encode()]
        sent = []

        async def receive():
            if not parts:
                return {"type": "http.disconnect"}
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message):
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], [(k.decode(), v.decode()) for k, v in sent[0]["headers"]], body

    def json(self, method, path, body=b"", **headers):
        """(status, value)."""
        status, _, content = self.ask(method, path, body, **headers)
        return status, json.loads(content)


class Served:
    """A real server on a thread, and connections to it."""

    def __init__(self, labeling, labeler="anna"):
        self.launch = open_launch()
        self.access = self.launch.access
        self.server = self.launch.server_for(make_app(labeling, self.access, labeler=labeler))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.launch.listener]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.005)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.launch.port, timeout=20)

    def ask(self, method, path, body=None, *, connection=None, **headers):
        """(status, value) of one request, with everything an allowed one has."""
        own = {
            "Cookie": f"{self.access.cookie}={self.access.token}",
            PAGE_HEADER: self.access.page_token,
            "Content-Type": "application/json",
            **headers,
        }
        used = connection or self.connect()
        try:
            used.request(method, path, body=None if body is None else json.dumps(body), headers=own)
            reply = used.getresponse()
            content = reply.read()
        finally:
            if connection is None:
                used.close()
        return reply.status, json.loads(content) if reply.headers["content-type"] == "application/json" else content

    def close(self):
        self.server.should_exit = True
        self.thread.join(10)
        self.launch.listener.close()

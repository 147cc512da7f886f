"""The labeler's server over a real socket: its routes, what it makes of broken requests, and being killed at any moment."""

import contextlib
import http.client
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from labeler_server import said

from tinyllm.labels import read_labels
from tinyllm.labels.store import FLAGS, HIGHEST, LOWEST
from tinyllm.server import labeler_app
from tinyllm.server.labeler_app import ASSETS

FIXTURES = Path(__file__).parents[1] / "fixtures"
INJECTIONS = json.loads((FIXTURES / "script_injections.json").read_text())


def test_the_page_and_its_parts_are_served_and_nothing_else_is(app):
    for path, (_, kind) in ASSETS.items():
        status, headers, body = app.ask("GET", path)
        assert status == 200 and dict(headers)["content-type"].startswith(kind) and body
    paths = [
        "/label.html",
        "/static/label.js",
        "/label.js/",
        "//label.js",
        "/../label.js",
        "/..%2f..%2fetc/passwd",
        "/label.js%00",
        "/LABEL.JS",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/label.css/../label.js",
        "/api",
        "/api/",
        "/api/labels",
        "/api/task/",
        "/docs",
        "/.git/config",
        "/C:\\Windows",
        "/\\\\host\\share",
        "/label.js;x",
        "/~root",
        "/proc/self/environ",
    ]
    assert [path for path in paths if app.ask("GET", path)[0] != 404] == []
    for method, path in (
        ("DELETE", "/api/label"),
        ("PUT", "/api/label"),
        ("GET", "/api/label"),
        ("POST", "/api/task"),
        ("TRACE", "/"),
    ):
        assert app.ask(method, path)[0] == 405


def test_the_page_loads_nothing_from_elsewhere_and_never_makes_markup_of_text():
    folder = Path(labeler_app.__file__).parent / "static"
    page, style, script = ((folder / name).read_text("utf-8") for name in ("label.html", "label.css", "label.js"))
    assert not re.search(r"https?:|//[a-z]", page) and not re.search(r"url\(|@import", style)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|eval|Function\(|srcdoc|setHTML|\.href|\.src\b", script
    )
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", page), "inline script, handler or style"


def test_the_page_offers_the_ratings_and_flags_that_the_label_file_knows():
    script = (Path(labeler_app.__file__).parent / "static" / "label.js").read_text("utf-8")
    assert LOWEST == 1 and f"const HIGHEST = {HIGHEST};" in script
    assert tuple(re.findall(r'\["(\w+)", "\w", "[A-Z][\w ]+"\]', script)) == FLAGS


def test_a_label_is_on_the_disk_when_it_is_called_saved(app, path, items):
    status, task = app.json("GET", "/api/task?labeler=anna")
    assert status == 200 and task["progress"]["total"] == 8
    status, answer = app.json("POST", "/api/label", said(task))
    assert status == 200 and answer["saved"] is True and answer["progress"]["done"] == 1
    assert [label.key for label in read_labels(path, items).labels] == ["key-00000001"]


def test_the_session_tells_the_pages_token_to_who_has_the_cookie(app):
    assert app.json("GET", "/api/session") == (200, {"token": app.access.page_token, "labeler": ""})


def test_text_comes_as_json_and_never_as_markup(app):
    """Whatever the strings, answers are JSON with nosniff; no string of a request comes back in an error as HTML."""
    for text in INJECTIONS:
        for status, headers, body in (
            app.ask("POST", "/api/label", said({"position": 0, "task": text}, labeler=text)),
            app.ask("POST", "/api/label", {text: text}),
            app.ask("GET", "/api/task?labeler=" + "".join(f"%{byte:02x}" for byte in text.encode())),
        ):
            kind = dict(headers)["content-type"]
            assert kind == "application/json" and json.loads(body) and (status == 200 or status in (400, 409))
    assert app.ask("GET", "/<script>alert(1)</script>")[2] == b"Not Found"


def mutate(body, rng):
    """A request's bytes with something wrong in them."""
    data = bytearray(json.dumps(body).encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        choice = rng.random()
        if choice < 0.4:
            data[at] = rng.randrange(256)
        elif choice < 0.7:
            del data[at : at + rng.randint(1, 20)]
        else:
            data[at:at] = rng.choice([b"{", b"]", b'"', b"\0", b"1e999", b"-1", b"null", b'"x":1,', b"\xff\xfe", b"9" * 100])
        data = data or bytearray(b" ")
    return bytes(data)


def test_broken_bodies_are_refused_and_the_label_file_stays_whole(app, items, path):
    rng = random.Random(0)
    _, task = app.json("GET", "/api/task?labeler=anna")
    seen = set()
    for number in range(1500):
        body = mutate(said(task, f"key-{number:08d}"), rng)
        seen.add(app.ask("POST", "/api/label", body)[0])
    assert seen <= {200, 400, 409}, seen  # a changed digit may well be another valid label
    assert {label.labeler for label in read_labels(path, items).labels} >= {"anna"} or 200 not in seen
    assert app.json("POST", "/api/label", said(task, "key-last"))[0] == 200


def raw(port, data):
    """The status a raw request is answered with; None if the connection is just closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            reply = connection.recv(4096)
            return int(reply.split()[1]) if reply else None
    return None


def test_broken_http_is_refused_and_the_server_lives(served):
    port = served.launch.port
    rng = random.Random(0)
    head = f"POST /api/label HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    good = (head + "Content-Length: 2\r\n\r\n{}").encode()
    cases = [
        b"",
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"a" * 70000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
    ]
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cases.append(bytes(data))
    statuses = {raw(port, case) for case in cases}
    assert {status for status in statuses if status is not None and not 400 <= status < 500} == set()
    assert served.ask("GET", "/api/task?labeler=anna")[0] == 200


def test_slow_clients_do_not_keep_others_waiting(served):
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", served.launch.port), timeout=10))
            connection.sendall(b"POST /api/label HTTP/1.1\r\nHost: ")
        start = time.monotonic()
        assert served.ask("GET", "/api/task?labeler=anna")[0] == 200
        assert time.monotonic() - start < 1.0


def test_many_at_once_are_all_saved_once(served, path, items):
    def work(name, problems):
        connection = served.connect()
        try:
            for number in range(8):
                _, task = served.ask("GET", f"/api/task?labeler={name}&position={number}", connection=connection)
                for _ in range(2):  # sent twice
                    reply = served.ask(
                        "POST", "/api/label", said(task, f"{name}-{number:06d}", labeler=name), connection=connection
                    )
                    if reply[0] != 200:
                        problems.append(reply)
        finally:
            connection.close()

    problems = []
    threads = [threading.Thread(target=work, args=(f"labeler{i}", problems)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_labels(path, items)
    assert problems == [] and len(found.labels) == 64 and found.n_duplicates == 0


SERVER = """
import os, sys
sys.path[:0] = sys.argv[3:]
import uvicorn, starlette.applications
from labeler_server import make_items
from tinyllm.labels import LabelStore
from tinyllm.server import Labeling, open_launch
from tinyllm.server.labeler_app import make_app
items = make_items(2000)
while sys.stdin.readline():  # a process for each start: forked, since loading takes longer than the life of most of them
    process = os.fork()
    if not process:
        store = LabelStore(sys.argv[1], items)
        launch = open_launch(token=sys.argv[2])
        app = make_app(Labeling(items, store), launch.access)
        print(os.getpid(), launch.port, launch.access.page_token, flush=True)
        launch.serve(app)
    os.waitpid(process, 0)
"""


class Labeler(threading.Thread):
    """Posts labels without end and keeps what was acknowledged; what was not is sent again, with its key."""

    def __init__(self, name, token):
        super().__init__(daemon=True)
        self.labeler, self.token, self.server, self.acknowledged, self.n_retries, self.done = name, token, None, {}, 0, False

    def run(self):
        number, body = 0, None
        while not self.done:
            server = self.server
            if server is None:
                time.sleep(0.001)
                continue
            try:
                if body is None:
                    task = self.ask(server, "GET", f"/api/task?labeler={self.labeler}&position={number}")
                    ratings = random.Random(number).choices(range(1, 8), k=5)
                    body = said(task, f"{self.labeler}-{number:08d}", labeler=self.labeler, ratings=ratings)
                answer = self.ask(server, "POST", "/api/label", body)
                assert answer["saved"] and answer["key"] == body["key"]
                self.acknowledged[body["key"]] = body["ratings"]
                number, body = number + 1, None
            except (OSError, http.client.HTTPException, ValueError):
                self.n_retries += body is not None
                time.sleep(0.001)

    def ask(self, server, method, path, body=None):
        port, page_token = server
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            headers = {
                "Cookie": f"tinyllm-{port}={self.token}",
                "X-Tinyllm-Token": page_token,
                "Content-Type": "application/json",
            }
            connection.request(method, path, body=json.dumps(body) if body else None, headers=headers)
            reply = connection.getresponse()
            if reply.status != 200:
                raise OSError(reply.status)
            return json.loads(reply.read())
        finally:
            connection.close()


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="starts its servers with fork, which this system has not")
def test_a_server_killed_at_50_moments_loses_no_acknowledged_label_and_doubles_none(path, tmp_path):
    pytest.importorskip("uvicorn", reason="needs the extra `serve`: pip install '.[serve]'")
    import os
    import signal

    tests = Path(__file__).parents[1]
    token, rng = "a-token-for-this-test", random.Random(0)
    starter = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path), token, str(tests), str(tests.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    workers = [Labeler(name, token) for name in ("anna", "ben")]
    for worker in workers:
        worker.start()
    try:
        for _ in range(50):
            starter.stdin.write("start\n")
            starter.stdin.flush()
            process, port, page_token = starter.stdout.readline().split()
            enough = sum(len(worker.acknowledged) for worker in workers) + rng.randrange(6)
            for worker in workers:
                worker.server = int(port), page_token
            end = time.monotonic() + 0.3
            while sum(len(worker.acknowledged) for worker in workers) < enough and time.monotonic() < end:
                time.sleep(0.001)
            time.sleep(0.02 * rng.random())
            os.kill(int(process), signal.SIGKILL)
    finally:
        for worker in workers:
            worker.done = True
        for worker in workers:
            worker.join()
        starter.stdin.close()
        starter.wait()
        starter.stdout.close()
    found = read_labels(path)
    keys = [label.key for label in found.labels]
    assert found.n_duplicates == 0 and path.read_bytes().count(b'"key"') <= len(keys) + found.n_torn
    saved = {label.key: [label.ratings[i] for i in label.order] for label in found.labels}
    acknowledged = {key: ratings for worker in workers for key, ratings in worker.acknowledged.items()}
    assert len(acknowledged) > 20 and sum(worker.n_retries for worker in workers) > 5, "the kills hit labels on their way"
    assert {key: saved.get(key) for key in acknowledged} == acknowledged

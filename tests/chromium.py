"""A real browser for tests: Chromium without a window, driven over the DevTools protocol with the standard library alone.

The protocol is JSON over a WebSocket (RFC 6455). A client needs little of that: one handshake, masked text frames out,
text frames in. `Page` types keys and clicks like a person does: as input events, not as calls of the page's functions.
"""

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

PATHS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 20  # until something that should have happened counts as failed
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-extensions "
    "--disable-dev-shm-usage --disable-sync --mute-audio --remote-debugging-port=0 --window-size=1100,900"
).split()
CODES = {"Enter": 13, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9, " ": 32}
WATCH = """
window.seen = {violations: [], alerts: 0};
document.addEventListener('securitypolicyviolation',
  (event) => window.seen.violations.push(event.violatedDirective + ' ' + event.blockedURI));
for (const name of ['alert', 'confirm', 'prompt']) window[name] = () => { window.seen.alerts += 1; };
"""


def find_chromium():
    """The path of a Chromium, or None."""
    return next((found for name in PATHS if (found := shutil.which(name))), None)


class Failed(AssertionError):
    """A command that the browser could not do, or an expression that threw."""


class WebSocket:
    """A client that sends and receives text."""

    def __init__(self, address):
        host, _, path = address.removeprefix("ws://").partition("/")
        name, port = host.split(":")
        self.socket = socket.create_connection((name, int(port)), timeout=SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        assert b" 101 " in self.stream.readline()
        while self.stream.readline() not in (b"\r\n", b""):
            pass

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        if len(data) < 126:
            size = bytes([0x80 | len(data)])
        else:
            size = struct.pack(">BH", 0xFE, len(data)) if len(data) < 65536 else struct.pack(">BQ", 0xFF, len(data))
        self.socket.sendall(b"\x81" + size + mask + bytes(b ^ m for b, m in zip(data, itertools.cycle(mask))))

    def receive(self):
        text, last = b"", False
        while not last:
            first, size = self.stream.read(2)
            if size == 126:
                size = struct.unpack(">H", self.stream.read(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self.stream.read(8))[0]
            part = self.stream.read(size)
            if first & 0x0F in (0, 1):  # text, or more of it; pings need no answer here
                text, last = text + part, bool(first & 0x80)
        return text.decode()

    def close(self):
        self.stream.close()
        self.socket.close()


class Page:
    """One tab. `errors` collects exceptions and console messages of kind error."""

    def __init__(self, address, *, dark=False, width=1100, height=900):
        self.socket, self.numbers, self.session, self.errors, self.dialogs = (
            WebSocket(address),
            itertools.count(1),
            None,
            [],
            [],
        )
        self.target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def close(self):
        self.session = None
        self.call("Target.closeTarget", targetId=self.target)
        self.socket.close()

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        self.socket.send(json.dumps(message if self.session is None else {**message, "sessionId": self.session}))
        while True:
            reply = json.loads(self.socket.receive())
            if reply.get("id") == number:
                if "error" in reply:
                    raise Failed(reply["error"])
                return reply["result"]
            self._event(reply)

    def _event(self, event):
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(event["params"]["exceptionDetails"])
        elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(event["params"]["entry"])
        elif event.get("method") == "Page.javascriptDialogOpening":
            self.dialogs.append(event["params"]["message"])
            self.socket.send(
                json.dumps(
                    {
                        "id": next(self.numbers),
                        "sessionId": self.session,
                        "method": "Page.handleJavaScriptDialog",
                        "params": {"accept": True},
                    }
                )
            )

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise Failed(result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, expression, seconds=SECONDS):
        """The expression's value as soon as it is true. Until then it may fail: pages come and go."""
        end, last = time.monotonic() + seconds, None
        while time.monotonic() < end:
            try:
                if value := self.evaluate(expression):
                    return value
            except Failed as failed:
                last = failed
            time.sleep(0.01)
        raise AssertionError(f"never true: {expression} ({last}); the page says: {self.evaluate('document.body.innerText')}")

    def open(self, address):
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def press(self, *keys):
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
            common = {"key": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
            self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def click(self, selector, index=0):
        """The left button on the middle of the element, which must be what is seen there."""
        place = f"document.querySelectorAll({json.dumps(selector)})[{index}]"
        self.evaluate(f"{place}.scrollIntoView({{block: 'center'}})")
        box = f"(() => {{ const r = {place}.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        x, y = self.evaluate(box)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path, *, whole=False):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))


@contextlib.contextmanager
def chromium():
    """The DevTools address of a running Chromium with a profile of its own; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [find_chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield _address(process, os.path.join(profile, "DevToolsActivePort"))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own children too, which are in its group
            process.wait()


def _address(process, path):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):  # not there yet, or half written
            with open(path) as file:
                port, tail = file.read().split()
            return f"ws://127.0.0.1:{port}{tail}"
        time.sleep(0.02)
    raise RuntimeError(f"{process.args[0]} did not start")

import errno
import http.server
import io
import os
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tinyllm.data.text.download import NetworkError, _WebOnly, cache_folder, cached_path, download
from tinyllm.storage import atomic


class _Handler(http.server.BaseHTTPRequestHandler):
    n_requests = 0

    def do_GET(self):
        type(self).n_requests += 1
        if "missing" in self.path:
            self.send_error(404)
            return
        if "moved-to=" in self.path:
            self.send_response(302)
            self.send_header("Location", urllib.parse.unquote(self.path.partition("moved-to=")[2]))
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000000" if "cut" in self.path else "300000")
        self.end_headers()
        self.wfile.write(b"text " * 60_000)

    def log_message(self, *args):
        pass


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    _Handler.n_requests = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_second_download_comes_from_the_cache(site, tmp_path):
    calls = []
    path = download(f"{site}/a b/tale.txt?x=1", folder=tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == b"text " * 60_000 and path.name.endswith("-tale.txt")
    assert calls[-1] == (300_000, 300_000) and len(calls) > 1
    assert download(f"{site}/a b/tale.txt?x=1", folder=tmp_path) == path
    assert _Handler.n_requests == 1


@pytest.mark.parametrize("name, reason", [("missing.txt", "Not Found"), ("cut.txt", "300000 (of 1000000|bytes read)")])
def test_a_failed_download_leaves_nothing_behind(site, tmp_path, name, reason):
    with pytest.raises(ValueError, match=f"could not download {site}/{name}: .*{reason}.*; check the address") as error:
        download(f"{site}/{name}", folder=tmp_path)
    assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_reset_connection_is_the_networks_fault(tmp_path, monkeypatch):
    """The reset comes in the middle, when a part has been written already."""

    class Reset(io.BytesIO):
        headers = {"Content-Length": "1000000"}

        def read(self, size):
            if chunk := super().read(size):
                return chunk
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *_, **__: Reset(b"text " * 1000))
    with pytest.raises(NetworkError, match="could not download http://host/a.txt: Connection reset by peer; check the address"):
        download("http://host/a.txt", folder=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_end_of_the_reader_of_the_progress_is_not_the_networks_fault(site, tmp_path):
    def closed(done, total):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        download(f"{site}/a.txt", folder=tmp_path, progress=closed)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/x", "file:///etc/passwd", "data:,text"])
def test_a_redirect_leads_nowhere_but_to_the_web(site, tmp_path, place):
    with pytest.raises(ValueError, match=f"could not download .*{place[:4]}.*not followed|is not allowed"):
        download(f"{site}/moved-to={urllib.parse.quote(place)}", folder=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert download(f"{site}/moved-to={urllib.parse.quote(site)}/a.txt", folder=tmp_path).read_bytes() == b"text " * 60_000


def test_a_redirect_does_not_lead_from_https_to_http():
    request = urllib.request.Request("https://host/a")
    with pytest.raises(NetworkError, match="the server sends us from https to 'http://host/a', which is not followed"):
        _WebOnly().redirect_request(request, None, 302, "Found", {}, "http://host/a")
    assert _WebOnly().redirect_request(request, None, 302, "Found", {}, "https://other/a").full_url == "https://other/a"


def test_an_unreachable_host_is_said_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="could not download http://127.0.0.1:9/x.txt: .*save the file as") as error:
        download("http://127.0.0.1:9/x.txt", folder=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/x", "tale.txt", "", "http:///a", "http://h:port/", "http://[::1/a"]
)
def test_only_http_addresses_are_fetched(url, tmp_path):
    with pytest.raises(ValueError, match="url must begin with http"):
        download(url, folder=tmp_path)


@pytest.mark.parametrize("url", ["http://h/", "http://h/../..", "http://h/%2e%2e%2f%2e%2e%2fx", "http://h/" + "a" * 500])
def test_no_address_leaves_the_cache_folder(url, tmp_path):
    path = cached_path(url, tmp_path)
    assert path.parent == tmp_path / "downloads" and path.resolve().parent == (tmp_path / "downloads").resolve()
    assert len(path.name) < 120


def test_different_addresses_have_different_files():
    assert cached_path("http://a/tale.txt") != cached_path("http://b/tale.txt")


def test_the_cache_folder_can_be_chosen(monkeypatch):
    monkeypatch.setenv("TINYLLM_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("TINYLLM_CACHE")
    assert cache_folder().name == "tinyllm"


def test_without_a_home_the_cache_must_be_chosen(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    for name in ("TINYLLM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="no home folder to keep downloads in; set TINYLLM_CACHE"):
        cache_folder()


def test_a_full_disk_is_not_blamed_on_the_network(tmp_path, monkeypatch):
    def full(path, chunks):
        raise OSError(errno.ENOSPC, "the disk is full. Make room for", str(path))

    monkeypatch.setattr(atomic, "write_file", full)
    with pytest.raises(OSError, match="the disk is full"):
        download("http://127.0.0.1:9/x.txt", folder=tmp_path)

"""Who is let in: this host, this origin, this launch's token, and nobody else."""

import asyncio
import re

import pytest

from tinyllm.server import Access
from tinyllm.server.security import ENTRANCE, HEADERS, MAX_BODY, PAGE_HEADER, POLICY, Guard

TASK = "/api/task?labeler=anna"

WRONG_HOSTS = [
    None,
    "",
    "evil.example",
    "evil.example:8642",
    "127.0.0.1",
    "127.0.0.1:80",
    "127.0.0.1:86420",
    "127.0.0.1:8642.evil.example",
    "localhost.evil.example:8642",
    "evil.example#127.0.0.1:8642",
    "0.0.0.0:8642",
    "127.1:8642",
    "2130706433:8642",
    "[::]:8642",
    "::1:8642",
    "127.0.0.1:8642, evil.example",
    " 127.0.0.1:8642",
    "user@127.0.0.1:8642",
    "127.0.0.2:8642",
    "[::ffff:127.0.0.1]:8642",
    "localtest.me:8642",
]
WRONG_ORIGINS = [
    "http://evil.example",
    "null",
    "",
    "https://127.0.0.1:8642",
    "http://127.0.0.1",
    "http://127.0.0.1:8643",
    "http://localhost:8642",
    "http://127.0.0.1:8642.evil.example",
    "http://127.0.0.1:8642/",
    "file://",
    "chrome-extension://abc",
    "http://127.0.0.1:8642 ",
    "HTTP://127.0.0.1:8642",
    "http://user@127.0.0.1:8642",
]


@pytest.mark.parametrize("host", WRONG_HOSTS)
def test_another_host_is_refused_everywhere(app, host):
    for method, path in (
        ("GET", "/"),
        ("GET", "/label.js"),
        ("GET", TASK),
        ("POST", "/api/label"),
        ("GET", f"/?token={app.access.token}"),
    ):
        assert app.ask(method, path, host=host)[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8642", "localhost:8642", "[::1]:8642"])
def test_our_own_names_are_answered_with_and_without_their_origin(app, host):
    assert app.ask("GET", TASK, host=host)[0] == 200
    assert app.ask("GET", TASK, host=host, origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize("origin", WRONG_ORIGINS)
def test_another_origin_is_refused_and_no_header_lets_it_read(app, origin):
    for method, path in (("GET", "/"), ("GET", TASK), ("POST", "/api/label"), ("OPTIONS", "/api/label")):
        status, headers, _ = app.ask(method, path, origin=origin)
        assert status == 403
        assert not any(name.startswith("access-control") for name, _ in headers)


def test_a_header_sent_twice_is_refused(app):
    assert app.ask("GET", TASK, more=[("host", "evil.example")])[0] == 403
    assert app.ask("GET", TASK, origin="http://127.0.0.1:8642", more=[("origin", "http://evil.example")])[0] == 403
    assert app.ask("POST", "/api/label", more=[(PAGE_HEADER, "x")])[0] == 403


def test_without_the_cookie_nothing_is_shown(app):
    name, token = app.access.cookie, app.access.token
    wrong = [
        None,
        "",
        name,
        f"{name}=",
        f"{name}={token[:-1]}",
        f"{name}={token}x",
        f"other={token}",
        f"{name}={token.swapcase()}",
        f"{name}={app.access.page_token}",
        f'{name}="{token}',
        f"{name}={token}; {name}=x",
        "\x01=;;;=",
        f"{name}=\u00e9",
    ]
    for cookie in wrong:
        for path in ("/", "/label.js", "/label.css", TASK, "/api/session", "/nothing"):
            status, _, body = app.ask("GET", path, cookie=cookie)
            assert status == 403 and app.access.page_token.encode() not in body, cookie


@pytest.mark.parametrize(
    "others", ['prefs={"dark":true}', "a[0]=1, 2", "=;;;=", "\x01", "no-value", "session=\u00e9", 'quote="open', "x tinyllm=y"]
)
def test_cookies_of_other_programs_on_this_host_do_not_hide_ours(app, others):
    ours = f"{app.access.cookie}={app.access.token}"
    for cookie in (f"{others}; {ours}", f"{ours}; {others}", f"{others};{ours} "):
        assert app.ask("GET", TASK, cookie=cookie)[0] == 200, cookie
    assert app.ask("GET", TASK, cookie=others)[0] == 403


def test_our_cookie_sent_twice_is_refused(app):
    ours = f"{app.access.cookie}={app.access.token}"
    for cookie in (f"{ours}; {app.access.cookie}=x", f"{app.access.cookie}=x; {ours}", f"{ours}; {ours}"):
        assert app.ask("GET", TASK, cookie=cookie)[0] == 403


def test_the_address_with_the_token_gives_the_cookie_and_leaves_the_address(app):
    status, headers, body = app.ask("GET", f"/?token={app.access.token}", cookie=None)
    headers = dict(headers)
    assert (status, body) == (200, ENTRANCE) and app.access.token.encode() not in body
    assert headers["set-cookie"] == f"tinyllm={app.access.token}; Path=/; HttpOnly; SameSite=Strict"
    for query in (
        "token=",
        "token=x",
        f"token={app.access.token}x",
        f"token={app.access.token}&token=x",
        f"Token={app.access.token}",
        "a=1",
    ):
        assert app.ask("GET", f"/?{query}", cookie=None)[0] == 403
    assert app.ask("GET", f"/api/session?token={app.access.token}", cookie=None)[0] == 403
    assert app.ask("POST", f"/?token={app.access.token}", cookie=None)[0] == 403


def test_a_change_needs_the_pages_own_token(app, path):
    for token in (None, "", "x", app.access.token, app.access.page_token[:-1], app.access.page_token + "x"):
        assert app.ask("POST", "/api/label", b"{}", **{PAGE_HEADER: token})[0] == 403
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
        "application/json; charset=utf-16",
        "text/plain; application/json",
    ],
)
def test_a_change_must_be_json_which_no_foreign_form_can_send(app, kind):
    assert app.ask("POST", "/api/label", b"{}", content_type=kind)[0] == 415


def test_a_body_is_bounded_whether_it_says_its_length_or_not(app):
    for length in (str(MAX_BODY + 1), "9" * 30, "-1", "1e3", "x"):
        assert app.ask("POST", "/api/label", b"{}", content_length=length)[0] == 413
    pieces = [b" " * 100_000] * 11
    assert app.ask("POST", "/api/label", pieces=pieces)[0] == 413


def test_every_answer_has_the_protective_headers(app):
    asked = [
        ("GET", "/"),
        ("GET", "/label.js"),
        ("GET", TASK),
        ("GET", "/nothing"),
        ("POST", "/"),
        ("POST", "/api/label"),
        ("GET", "/?token=x"),
        ("GET", f"/?token={app.access.token}"),
    ]
    for method, path in asked:
        _, headers, _ = app.ask(method, path)
        for name, value in HEADERS:
            assert [v for n, v in headers if n == name] == [value], (method, path, name)
    assert "'unsafe" not in POLICY and POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self'")


def test_nothing_but_http_is_spoken(app):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(app.app({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_tokens_are_new_for_each_launch_and_a_chosen_one_must_be_long():
    one, two = Access(frozenset()), Access(frozenset())
    assert len({one.token, two.token, one.page_token, two.page_token}) == 4 and len(one.token) >= 32
    for token in ("short", "x" * 15, "spaces are not allowed", "semicolon;;;;;;;;;;;;;;", "\u00e9" * 20):
        with pytest.raises(ValueError, match="token has"):
            Access(frozenset(), token=token)


def test_a_refusal_says_what_to_do_and_shows_no_secret():
    async def inner(scope, receive, send):
        raise AssertionError("the request got through")

    access, sent = Access(frozenset({"127.0.0.1:1"})), []

    async def send(message):
        sent.append(message)

    asyncio.run(
        Guard(inner, access)({"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"127.0.0.1:1")]}, None, send)
    )
    text = sent[1]["body"].decode()
    assert sent[0]["status"] == 403 and "open the address that was printed" in text
    assert access.token not in text and not re.search("Traceback", text)

"""The socket, the address and the hosts of a launch."""

import socket

import pytest

from tinyllm.server import open_launch
from tinyllm.server.launch import require_extra

TOKEN = "a-token-of-some-length"


def test_a_launch_is_bound_to_this_machine_and_knows_its_names():
    with open_launch() as launch:
        port = launch.port
        assert launch.listener.getsockname() == ("127.0.0.1", port) and launch.is_local
        assert launch.access.hosts == {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"}
        assert launch.address == f"http://127.0.0.1:{port}/?token={launch.access.token}"
        assert launch.access.cookie == f"tinyllm-{port}"


def test_each_launch_has_a_token_of_its_own_unless_one_is_chosen():
    with open_launch() as one, open_launch() as two, open_launch(token=TOKEN) as three:
        assert one.access.token != two.access.token and three.access.token == TOKEN


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_every_address_at_once_is_refused(host):
    with pytest.raises(ValueError, match="every address at once"):
        open_launch(host, token=TOKEN)


def test_another_address_demands_a_token():
    with pytest.raises(ValueError, match=r"which others can reach: .*--token"):
        open_launch("198.51.100.7")
    with pytest.raises(OSError, match="choose another port, or host"):
        open_launch("198.51.100.7", token=TOKEN)  # not an address of this machine


def test_a_port_in_use_or_out_of_range_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1"):
            open_launch(port=port)
    for port in (-1, 65536):
        with pytest.raises(ValueError, match="port is"):
            open_launch(port=port)


def test_a_missing_extra_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"starlette is missing; install the extra serve: .* install -e '.*\[serve\]'"):
        require_extra()

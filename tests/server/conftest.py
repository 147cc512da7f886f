"""Items, their label file, and a server for them: asked directly (`app`), or over a socket (`served`)."""

import pytest
from labeler_server import HOST, Client, Served, make_items

from tinyllm.labels import LabelStore
from tinyllm.server import Access, Labeling
from tinyllm.server.labeler_app import make_app


def needs_the_extra():
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason="needs the extra `serve`: pip install '.[serve]'")


@pytest.fixture
def items():
    return make_items(6)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.jsonl"


@pytest.fixture
def store(path, items):
    with LabelStore(path, items) as store:
        yield store


@pytest.fixture
def labeling(items, store):
    return Labeling(items, store, repeat_every=3)


@pytest.fixture
def app(labeling):
    needs_the_extra()
    access = Access(frozenset({HOST, "localhost:8642", "[::1]:8642"}))
    return Client(make_app(labeling, access), access)


@pytest.fixture
def served(labeling):
    needs_the_extra()
    server = Served(labeling)
    yield server
    server.close()

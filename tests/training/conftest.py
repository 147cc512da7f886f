"""Lets the tests here import `tiny_run`, the small run that lies beside them; a folder for tests that write much."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def memory_path(tmp_path):
    """A folder in memory where there is one: the tests with many checkpoints do not wait for the disk."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    folder = tempfile.mkdtemp(dir="/dev/shm")
    yield Path(folder)
    shutil.rmtree(folder)

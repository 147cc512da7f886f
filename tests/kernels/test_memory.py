"""Freed memory is kept: the second array of a size costs no new pages."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT_PAGES = """
import resource, sys
import numpy as np
from tinyllm.kernels.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():  # activations pile up and are all let go of; below 4 MB NumPy does not ask for huge pages
    held = [np.ones(2_000_000, np.uint8) for _ in range(20)]
step()
before = pages()
for _ in range(5):
    step()
print(kept, pages() - before)
"""


def _pages(word: str, **environment: str) -> tuple[bool, int]:
    settings = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | environment
    done = subprocess.run([sys.executable, "-c", COUNT_PAGES, word], env=settings, capture_output=True, text=True, check=True)
    kept, pages = done.stdout.split()
    return kept == "True", int(pages)


def test_arrays_made_again_take_no_new_pages():
    kept, pages = _pages("keep")
    if not kept:
        pytest.skip("no glibc malloc here")
    assert pages < 200
    assert _pages("leave")[1] > 1000  # the same program without the setting pays in every round


def test_a_user_who_tuned_malloc_is_left_alone():
    assert _pages("keep", MALLOC_TRIM_THRESHOLD_="1000000")[0] is False

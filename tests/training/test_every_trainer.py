"""A run that is stopped goes on with the same bits and the same log: every trainer, stopped at every kind of place.

The places at which a stop can be told apart are those where the loop looks for a signal: before each batch of an evaluation,
between micro-batches, before each step. In small all of them are tried in turn; `random_stops.py` takes moments at random.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import every_trainer
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.training import Stopped, latest_checkpoint, loop
from tinyllm.training.signals import StopSignals

ROOT = Path(tinyllm.__file__).parents[1]


class Crash(BaseException):
    """The process is gone: nothing was saved."""


@pytest.fixture
def stopped_at(monkeypatch):
    """stopped_at(k, name, folder): the trainer gets SIGTERM (or crashes) at its k-th look for a signal; how often it looked."""

    def start(k, name, folder, *, crash=False, resume=False):
        class Signals(StopSignals):
            looks = 0

            @property
            def received(self):
                Signals.looks += 1
                if Signals.looks >= k and crash:
                    raise Crash
                return signal.SIGTERM if Signals.looks >= k else None

            @received.setter
            def received(self, value):
                pass

        with monkeypatch.context() as patch:
            patch.setattr(loop, "StopSignals", Signals)
            every_trainer.run(name, folder, resume=resume)
        return Signals.looks

    return start


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """whole(name): the end of a run that was never stopped."""
    found = {}

    def get(name):
        if name not in found:
            folder = tmp_path_factory.mktemp("whole") / "run"
            every_trainer.run(name, folder)
            found[name] = every_trainer.end_of(folder)
        return found[name]

    return get


@pytest.mark.parametrize("name", every_trainer.TRAINERS)
def test_stopped_anywhere_it_ends_with_the_same_bits_and_the_same_log(name, whole, stopped_at, memory_path):
    n_looks, names = stopped_at(10**9, name, memory_path / "whole"), set()
    assert every_trainer.end_of(memory_path / "whole") == whole(name)
    for k in (1, 2, 3, 4, *range(6 + len(name) % 3, n_looks, 6)):  # in the first evaluation and step, and all over the run
        folder = memory_path / str(k)
        with pytest.raises(Stopped) as caught:
            stopped_at(k, name, folder)
        assert caught.value.code == 143 and caught.value.checkpoint == latest_checkpoint(folder / "checkpoints")
        names.add(caught.value.checkpoint.name)
        every_trainer.run(name, folder, resume=True)
        assert every_trainer.end_of(folder) == whole(name), k
    assert {"step-00000000", "step-00000000-micro-0001"} <= names


@pytest.mark.parametrize("name", ["next token", "instructions, padded", "dpo", "ppo"])
def test_stopped_again_and_again_or_killed_it_ends_the_same(name, whole, stopped_at, memory_path):
    for i, k in enumerate((4, 3, 2, 6, 5)):  # the first in the first step, between its micro-batches
        with pytest.raises((Stopped, Crash)):
            stopped_at(k, name, memory_path, crash=i % 2 == 1, resume=i > 0)
    every_trainer.run(name, memory_path, resume=True)
    assert every_trainer.end_of(memory_path) == whole(name)


def test_a_second_checkout_with_another_number_of_threads_goes_on_with_the_same_bits(whole, stopped_at, tmp_path):
    for name in every_trainer.TRAINERS:
        with pytest.raises(Stopped):
            stopped_at(9, name, tmp_path / "runs" / name)
    shutil.copytree(ROOT / "tinyllm", tmp_path / "other" / "tinyllm", ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "other")}
    if kernels.backend() == "numba":  # the twins leave sums to BLAS
        environment |= {"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    words = [sys.executable, "-W", "error::UserWarning", every_trainer.__file__, str(tmp_path / "runs")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in every_trainer.TRAINERS:
        assert every_trainer.end_of(tmp_path / "runs" / name) == whole(name), name

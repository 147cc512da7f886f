"""Facts about stopping: SIGINT, SIGTERM and SIGHUP save and exit with 130, 143 and 129; a second one does not wait."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny_run

from tinyllm.training import StopSignals, latest_checkpoint
from tinyllm.training.signals import CAUGHT

ROOT = str(Path(__file__).parents[2])


@pytest.fixture(autouse=True)
def hang_up_is_heard():
    """Whoever runs the tests under nohup hands "ignore SIGHUP" down to every process."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def start(folder, *options):
    """A run in a process of its own, after its first micro-batch began."""
    command = [sys.executable, tiny_run.__file__, str(folder), "--max-steps", "1000", *options]
    environment = os.environ | {"TINYLLM_KERNELS": "numpy", "PYTHONPATH": ROOT}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "micro-batch\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_exits_with_its_code(tmp_path, number, code):
    process = start(tmp_path, "--slow", "0.05")
    time.sleep(0.1)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code and errors == ""
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    assert f"stopped by {number.name} after" in output and f"saved {checkpoint}; resume to go on" in output


@pytest.mark.parametrize(("number", "codes"), [(signal.SIGINT, (130, -signal.SIGINT)), (signal.SIGTERM, (143,))])
def test_a_second_signal_does_not_wait_for_the_micro_batch(tmp_path, number, codes):
    process = start(tmp_path, "--slow", "30")
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None  # the first one waits
    before = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=20)
    assert time.monotonic() - before < 2 and process.returncode in codes


def test_a_closed_terminal_saves_though_nothing_can_be_printed(tmp_path):
    ours, theirs = pty.openpty()
    words = [sys.executable, tiny_run.__file__, str(tmp_path), "--max-steps", "100000"]
    environment = os.environ | {"TINYLLM_KERNELS": "numpy", "PYTHONPATH": ROOT}
    process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert os.read(ours, 100).startswith(b"micro-batch")
    for _ in range(2):  # one from the terminal, one from the shell
        process.send_signal(signal.SIGHUP)
    with pytest.raises(OSError, match="Input/output"):  # all who wrote here have left
        while os.read(ours, 1000):
            pass
    os.close(ours)
    assert process.wait(timeout=60) == 129
    assert latest_checkpoint(tmp_path / "checkpoints")


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signals.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in CAUGHT]
    with StopSignals() as signals:
        assert signals.received is None
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(SystemExit, match="143"):
            signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in CAUGHT] == before


def test_a_thread_may_train_too():
    failures = []

    def body():
        try:
            with StopSignals() as signals:
                assert signals.received is None
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert failures == []

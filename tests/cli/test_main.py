"""The command itself: exit codes, one-line errors, quick help."""

import os
import signal
import subprocess
import sys
import time
import types

import pytest

from tinyllm import __version__
from tinyllm.cli import main as cli
from tinyllm.cli.main import main
from tinyllm.storage.explain import explain

PYTHON = [sys.executable, "-m", "tinyllm.cli.main"]


def with_verb(monkeypatch, run):
    """Make `tinyllm doctor` call `run` instead."""
    import tinyllm.cli.doctor

    monkeypatch.setattr(tinyllm.cli.doctor, "run", run)


def raising(error):
    def run(args):
        raise error

    return run


def test_without_a_verb_the_help_is_shown(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb} " in shown for verb in cli.VERBS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tinyllm {__version__}\n"


@pytest.mark.parametrize("verb", cli.VERBS)
@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_help_of_each_verb_has_an_example_and_fits_the_terminal(verb, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"  tinyllm {verb}" in shown[shown.index("\nexample") :]
    assert max(map(len, shown.splitlines())) <= int(columns)


@pytest.mark.parametrize("columns", ["1", "-5", "0", "x"])
def test_a_terminal_that_says_nonsense_of_its_width_gets_help_too(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["train", "--help"]) == 0 and "usage: tinyllm train" in capsys.readouterr().out


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from tinyllm.cli.main import main; main(['--help']); "
        "print([m for m in ('numba', 'regex', 'tqdm', 'tinyllm.models', 'tinyllm.data') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\nb"), "a b"),
        (FileNotFoundError(2, "No such file or directory", "x.txt"), "No such file or directory: x.txt; check the name"),
        (OSError("plain"), "plain"),
        (MemoryError(), "not enough memory (the system gave none); use a smaller batch or model"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(error, line, monkeypatch, fails):
    with_verb(monkeypatch, raising(error))
    assert explain(error) == line
    assert fails("doctor") == line


def test_advice_is_for_the_systems_own_words_only():
    assert explain(PermissionError(13, "Permission denied", "x")).endswith("; check the permissions, or choose another place")
    assert explain(OSError(28, "the disk is full. Make room for", "x")) == "the disk is full. Make room for: x"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_program_without_input_or_output_still_works(closed):
    done = subprocess.run(["bash", "-c", f"{' '.join(PYTHON)} info {closed}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_debug_shows_the_traceback(monkeypatch, capsys):
    with_verb(monkeypatch, raising(ValueError("wrong")))
    assert main(["doctor", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_of_our_own_is_not_hidden(monkeypatch):
    with_verb(monkeypatch, raising(KeyError("x")))
    with pytest.raises(KeyError):
        main(["doctor"])


def test_ctrl_c_exits_with_130(monkeypatch, capsys):
    with_verb(monkeypatch, raising(KeyboardInterrupt()))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "tinyllm: stopped\n"


def test_sigterm_exits_with_143_and_the_old_handler_is_back(monkeypatch):
    def run(args):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with_verb(monkeypatch, run)
    assert main(["doctor"]) == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_warning_is_one_line(monkeypatch, capsys):
    import warnings

    with_verb(monkeypatch, lambda args: warnings.warn("old\nthing", stacklevel=1) or 0)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().err == "tinyllm: warning: old thing\n"


def test_a_closed_pipe_is_quiet():
    shell = f"{' '.join(PYTHON)} info | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout in ("0\n", "1\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_the_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*PYTHON, "info"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "tinyllm: error: No space left on device; make room on the disk\n")


def test_unknown_verbs_and_options_name_the_nearest(fails):
    assert "did you mean train?" in fails("trian")
    assert fails("info", "--n-layerz", "3") == "unknown option --n-layerz; did you mean --n-layers?"
    assert fails("doctor", "x").startswith("'x' is not expected here")


def test_threads_are_checked_and_reach_the_kernels(monkeypatch, fails):
    seen = []
    with_verb(monkeypatch, lambda args: seen.append(os.environ["NUMBA_NUM_THREADS"]) or 0)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    monkeypatch.setitem(sys.modules, "numba", types.SimpleNamespace(set_num_threads=seen.append))
    assert main(["doctor", "--threads", "1"]) == 0
    assert seen == [1, "1"]
    assert "--threads is 0" in fails("--threads", "0", "doctor")

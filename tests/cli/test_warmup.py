"""`tinyllm warmup` and compiling once before long work. Compiling is replaced by a count: it takes a minute."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm.cli.main import main
from tinyllm.cli.terminal import Terminal
from tinyllm.recipes import compile_ahead


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """Pretends to compile two kernels, into tmp_path; `calls` holds the dtypes asked for."""
    from tinyllm.kernels import jit

    calls, counts = [], {"matmul": 0, "softmax": 0}

    def pretend(dtype="float32"):
        calls.append(dtype)
        for index, name in enumerate(counts, start=1):
            yield name, index, 2
            counts[name] = 0 if (tmp_path / name).exists() else 1
            (tmp_path / name).touch()

    monkeypatch.setenv("TINYLLM_KERNELS", "numba")
    monkeypatch.setattr(compile_ahead, "warmup", pretend)
    monkeypatch.setattr(jit, "compilations", lambda: dict(counts))
    monkeypatch.setattr(jit, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(jit, "code_files", lambda: [tmp_path / name for name in counts])
    monkeypatch.setattr(compile_ahead, "compile_elsewhere", lambda: main(["warmup"]) == 0)
    return calls


def test_the_first_time_compiles_and_the_second_has_nothing_to_do(compiler, tmp_path, capsys):
    assert main(["warmup"]) == 0
    assert f"they are kept in {tmp_path}" in (first := capsys.readouterr()).out
    assert first.out.startswith("Compiled 2 kernels in ")
    assert first.err.startswith("compiling 0/2 kernels    0%  kernel matmul")
    assert main(["warmup"]) == 0
    assert capsys.readouterr().out.startswith("Nothing to compile: all kernels for float32")
    assert compiler == ["float32", "float32"]


def test_kernels_are_compiled_before_long_work_only_once(compiler, capsys):
    compile_ahead.ensure_compiled(Terminal())
    compile_ahead.ensure_compiled(Terminal())
    assert compiler == ["float32"]
    assert capsys.readouterr().err.startswith("Compiling the kernels")


def test_code_that_was_taken_away_is_compiled_again(compiler, tmp_path):
    compile_ahead.ensure_compiled(Terminal())
    (tmp_path / "softmax").unlink()
    assert not compile_ahead.is_compiled()
    compile_ahead.ensure_compiled(Terminal())
    assert compiler == ["float32", "float32"] and compile_ahead.is_compiled()


@pytest.mark.parametrize("content", ["", "{", '{"matmul": "0"}', '{"absent": 0}'])
def test_a_list_of_code_that_makes_no_sense_is_not_believed(content, compiler, tmp_path):
    compile_ahead.ensure_compiled(Terminal())
    (listed,) = tmp_path.glob("compiled-*.json")
    listed.write_text(content)
    assert not compile_ahead.is_compiled()


OTHER = "nehalem" if os.environ.get("NUMBA_CPU_NAME") == "haswell" else "haswell"  # than this processor, or what it plays


@pytest.mark.parametrize(("name", "value"), [("NUMBA_CPU_NAME", OTHER), ("NUMBA_OPT", "1")])
def test_code_for_another_processor_or_with_other_settings_is_not_there(name, value, compiler, tmp_path):
    """A home folder that moves between machines; the code of one must not pass for that of the other."""
    compile_ahead.ensure_compiled(Terminal())
    program = (
        "from pathlib import Path; from tinyllm.recipes import compile_ahead; from tinyllm.kernels import jit;"
        f"jit.cache_folder = lambda: Path({str(tmp_path)!r}); print(compile_ahead.is_compiled())"
    )
    assert python(program).stdout == "True\n"
    assert python(program, **{name: value}).stdout == "False\n"


def python(program, **environment):
    root = str(Path(compile_ahead.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "TINYLLM_KERNELS": "numba"} | environment
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)


def test_other_number_types_do_not_count_as_done(compiler):
    assert main(["warmup", "--dtype", "float64"]) == 0
    compile_ahead.ensure_compiled(Terminal())
    assert compiler == ["float64", "float32"]


def test_the_numpy_back_end_has_nothing_to_compile(compiler, monkeypatch, capsys):
    monkeypatch.setenv("TINYLLM_KERNELS", "numpy")
    compile_ahead.ensure_compiled(Terminal())
    assert main(["warmup"]) == 0
    assert "TINYLLM_KERNELS=numpy" in capsys.readouterr().out
    assert compiler == []


def test_without_a_folder_to_keep_code_in_it_says_so(compiler, monkeypatch, capsys):
    from tinyllm.kernels import jit

    monkeypatch.setattr(jit, "cache_folder", lambda: None)
    compile_ahead.ensure_compiled(Terminal())
    assert "Compiling the kernels, at every start" in capsys.readouterr().err  # silence would look like a hang
    assert main(["warmup"]) == 0
    assert "Set NUMBA_CACHE_DIR" in capsys.readouterr().out


def test_what_trains_loads_code_that_another_process_compiled(compiler, monkeypatch, tmp_path):
    """Freshly compiled code may round differently from the same code loaded: then a resumed run would not be exact."""
    monkeypatch.undo()
    started = []
    monkeypatch.setattr(compile_ahead.subprocess, "run", lambda words, **settings: started.append(words) or Done(started))
    assert compile_ahead.compile_elsewhere() is True
    assert compile_ahead.compile_elsewhere() is False
    assert started[0][1:] == ["-m", "tinyllm", "warmup"]


class Done:
    """The first process succeeds, the second fails."""

    def __init__(self, started):
        self.returncode = len(started) - 1


def test_compiling_here_is_the_way_out_if_another_process_cannot_be_had(compiler, monkeypatch, capsys):
    monkeypatch.setattr(compile_ahead, "compile_elsewhere", lambda: False)
    compile_ahead.ensure_compiled(Terminal())
    assert compiler == ["float32"]

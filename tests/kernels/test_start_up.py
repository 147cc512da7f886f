"""Machine code on disk: torn, foreign and stale files, many processes at once, any number of threads, nothing compiled twice."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyllm import kernels

pytestmark = pytest.mark.skipif(kernels.backend() == "numpy", reason="needs the compiled kernels")
ROOT = Path(kernels.__file__).parents[2]
# A parallel kernel that is quickly compiled. Its sums are in a fixed order: code just compiled and the same code loaded from
# the disk may round differently where the order is the compiler's (it optimises the loop body twice; see cli/warmup.py).
EMBEDDING = """
import hashlib, numpy as np
from tinyllm import kernels
from tinyllm.kernels import jit
rng = np.random.default_rng(0)
dy, ids = rng.standard_normal((300, 70)).astype("f"), rng.integers(0, 40, 300)
bits = kernels.embedding_backward(dy, ids, 40).tobytes()
print(hashlib.sha256(bits).hexdigest(), sum(jit.compilations().values()), jit.threading_layer())
"""


def start(code, **environment):
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    settings = {name: str(value) for name, value in settings.items() if value is not None}
    return subprocess.Popen([sys.executable, "-c", code], env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process):
    """(what the code printed, word by word); fails with what it said on stderr."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    return out.split()


def _double(x):
    for i in range(x.size):
        x[i] *= 2


def _negate(x):
    for i in range(x.size):
        x[i] = -x[i]


def kernel_in(folder, function, monkeypatch):
    """A new dispatcher of `function`, as a new process would make it, with its code in `folder`."""
    from tinyllm.kernels import jit

    monkeypatch.setattr(jit, "kernel_folder", lambda: folder)
    monkeypatch.setattr(jit, "KERNELS", [])
    return jit.jit(function)


def run(folder, function, monkeypatch):
    """(what the kernel makes of 1, 2, 3; how many signatures had to be compiled)."""
    kernel = kernel_in(folder, function, monkeypatch)
    x = np.array([1, 2, 3], "f")
    kernel(x)
    return x.tolist(), sum(kernel.stats.cache_misses.values())


def files(folder, ending):
    return sorted(folder.rglob(f"*.{ending}"))


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_code_torn_at_any_length_is_compiled_again_and_kept(ending, tmp_path, monkeypatch):
    assert run(tmp_path, _double, monkeypatch) == ([2, 4, 6], 1)
    (path,) = files(tmp_path, ending)
    whole = path.read_bytes()
    for length in sorted({0, 1, len(whole) - 1, len(whole) - 33, *range(0, len(whole), len(whole) // 8)}):
        path.write_bytes(whole[:length])
        assert run(tmp_path, _double, monkeypatch) == ([2, 4, 6], 1), length
        assert run(tmp_path, _double, monkeypatch) == ([2, 4, 6], 0), length
        path.write_bytes(whole)


def test_a_flipped_bit_anywhere_in_the_code_is_seen(tmp_path, monkeypatch):
    run(tmp_path, _double, monkeypatch)
    (path,) = files(tmp_path, "nbc")
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 12):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        assert run(tmp_path, _double, monkeypatch) == ([2, 4, 6], 1), place


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"\x80\x05N.", os.urandom(3000), b"not code at all\n" * 100])
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_files_of_something_else_are_no_reason_to_fail(content, ending, tmp_path, monkeypatch):
    run(tmp_path, _double, monkeypatch)
    (path,) = files(tmp_path, ending)
    path.write_bytes(content)
    assert run(tmp_path, _double, monkeypatch) == ([2, 4, 6], 1)
    assert run(tmp_path, _double, monkeypatch) == ([2, 4, 6], 0)


def test_the_code_of_another_kernel_is_not_run_in_its_place(tmp_path, monkeypatch):
    run(tmp_path, _double, monkeypatch)
    run(tmp_path, _negate, monkeypatch)
    ours, others = files(tmp_path, "nbc")
    assert "_double" in ours.name and "_negate" in others.name
    ours.write_bytes(others.read_bytes())
    assert run(tmp_path, _double, monkeypatch) == ([2, 4, 6], 1)


def test_eight_processes_that_start_at_once_on_an_empty_cache_agree_and_leave_it_whole(tmp_path):
    found = [result(process) for process in [start(EMBEDDING, NUMBA_CACHE_DIR=tmp_path) for _ in range(8)]]
    assert len({tuple(words[:1]) for words in found}) == 1
    assert result(start(EMBEDDING, NUMBA_CACHE_DIR=tmp_path))[1] == "0"
    assert not [path for path in tmp_path.rglob("*.tmp.*")]


def test_a_second_checkout_loads_the_code_of_the_first_unless_its_source_is_another(tmp_path):
    """At another path, as `git clone` would put it there, with other times on its files."""
    other = tmp_path / "other"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tinyllm", other / "tinyllm", copy_function=shutil.copyfile, ignore=ignored)

    def bits_and_compilations(path):
        settings = {"NUMBA_CACHE_DIR": tmp_path / "cache", "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}  # not the working folder
        words = result(start("import tinyllm; print(tinyllm.__file__)" + EMBEDDING, **settings))
        assert words[0] == str(path / "tinyllm" / "__init__.py")
        return words[1], words[2]

    first, second = bits_and_compilations(ROOT), bits_and_compilations(other)
    assert (first[1], second[1]) == ("1", "0") and first[0] == second[0]
    file = other / "tinyllm" / "kernels" / "embedding.py"
    file.write_text(file.read_text() + "# another version\n")
    assert [bits_and_compilations(path)[1] for path in (other, ROOT)] == ["1", "0"]


def test_a_home_that_moves_between_processors_keeps_the_code_of_both(tmp_path):
    """From one with all its instructions to one that has AVX2 alone, and back."""
    avx2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+popcnt,+f16c"}
    other = avx2 if platform.machine() in ("x86_64", "AMD64") else {"NUMBA_CPU_NAME": "generic"}
    if os.environ.get("NUMBA_CPU_NAME") == "haswell":  # the suite itself is run with AVX2 code
        other = {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "+sse4.2"}
    found = [result(start(EMBEDDING, NUMBA_CACHE_DIR=tmp_path, **settings)) for settings in ({}, other, {}, other)]
    assert [words[1] for words in found] == ["1", "1", "0", "0"]
    assert found[0][0] == found[2][0] and found[1][0] == found[3][0]


def test_one_cache_serves_any_number_of_threads_with_the_same_bits(tmp_path):
    found = [result(start(EMBEDDING, NUMBA_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=n)) for n in (2, 1, 4, 8)]
    assert len({words[0] for words in found}) == 1
    assert [words[1] for words in found] == ["1", "0", "0", "0"]


def test_a_cache_that_may_only_be_read_is_read_and_otherwise_does_no_harm(tmp_path):
    """As in an image built by root and run by somebody else. (Root itself may write anywhere: there, only the first half.)"""
    first = result(start(EMBEDDING, NUMBA_CACHE_DIR=tmp_path))
    for path in (*tmp_path.rglob("*"), tmp_path):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        loaded = result(start(EMBEDDING, NUMBA_CACHE_DIR=tmp_path, HOME=None, XDG_CACHE_HOME=None))
        assert loaded[0] == first[0] and loaded[1] == "0"
        other = EMBEDDING.replace("kernels.embedding_backward(dy, ids, 40)", "kernels.embedding_forward(dy, ids)")
        assert len(result(start(other, NUMBA_CACHE_DIR=tmp_path, HOME=None, XDG_CACHE_HOME=None))) == 3
    finally:
        for path in (tmp_path, *tmp_path.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


TRAIN_AND_WRITE = """
import numpy as np, time
begin = time.perf_counter()
from tinyllm.kernels.examples import warmup
list(warmup())
from tinyllm.kernels import jit
before = dict(jit.signatures())
from tinyllm.decoding import generate
from tinyllm.models import GPT, GPTConfig
from tinyllm.ops import cross_entropy
from tinyllm.training import TrainConfig, make_optimizer
from tinyllm.training.step import update_weights
for bias in (False, True):
    config = GPTConfig(vocab_size=65, block_size=64, n_layers=2, n_heads=4, d_model=64, bias=bias)
    model = GPT(config, rng=np.random.default_rng(0))
    ids = np.random.default_rng(1).integers(0, 65, (4, 65))
    optimizer = make_optimizer(model, TrainConfig())
    for mask in (None, ids[:, 1:] > 9):
        cross_entropy(model(ids[:, :-1]), ids[:, 1:], loss_mask=mask).backward()
        update_weights(optimizer, learning_rate=1e-3, grad_clip=1.0)
    model.eval()
    generate(model, [[1, 2, 3], [4]], max_new_tokens=4, rng=np.random.default_rng(2))
after = jit.signatures()
print(sorted(name for name in after if after[name] != before.get(name)))
"""


def test_nothing_compiles_in_training_or_generating_after_warmup():
    assert "".join(result(start(TRAIN_AND_WRITE))) == "[]"

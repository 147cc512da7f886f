"""The compiler's corner: nothing loads before it is needed, nothing compiles twice, nothing breaks without a disk."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyllm import kernels
from tinyllm.kernels import reference
from tinyllm.kernels.examples import examples, warmup
from tinyllm.tokenizers import BPETokenizer, bpe

compiled_only = pytest.mark.skipif(kernels.backend() == "numpy", reason="needs the compiled kernels")
ROOT = Path(kernels.__file__).parents[2]
ONE_KERNEL = "import numpy as np; from tinyllm import kernels; print(kernels.silu_forward(np.ones(3, 'f')).tolist());"
COUNT = "from tinyllm.kernels import jit; print(sum(jit.compilations().values()))"


def python(code, **environment):
    """Run code in a new Python; returns what it printed. A value of None removes the variable."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    settings = {name: str(value) for name, value in settings.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_import_loads_neither_numba_nor_kernels():
    assert python("import sys, tinyllm.kernels; print('numba' in sys.modules, 'tinyllm.kernels.jit' in sys.modules)") == [
        "False False"
    ]


def test_import_sets_nothing_up_but_the_first_kernel_does(tmp_path):
    code = """
import os
before = dict(os.environ)
import tinyllm.kernels
print(dict(os.environ) == before, len(os.listdir(os.environ["NUMBA_CACHE_DIR"])))
tinyllm.kernels.softmax_forward
from tinyllm.kernels.set_up import set_up
print(os.environ["OMP_WAIT_POLICY"], set_up(), len(os.listdir(os.environ["NUMBA_CACHE_DIR"])))
"""
    before, after = python(code, NUMBA_CACHE_DIR=str(tmp_path), OMP_WAIT_POLICY="ACTIVE", NUMBA_NUM_THREADS="1")
    assert before == "True 0" and after == "ACTIVE Threads(number=1, source='NUMBA_NUM_THREADS') 1"


def test_every_kernel_has_a_twin_and_an_example():
    assert set(examples()) == set(kernels.TABLE)
    for name in kernels.TABLE:
        assert callable(getattr(reference, name)), name


def test_environment_chooses_the_twins():
    code = "from tinyllm import kernels; import sys; print(kernels.matmul.__module__, 'numba' in sys.modules)"
    assert python(code, TINYLLM_KERNELS="numpy") == ["tinyllm.kernels.reference.products False"]


def test_an_unknown_choice_is_refused(monkeypatch):
    monkeypatch.setenv("TINYLLM_KERNELS", "cuda")
    with pytest.raises(ValueError, match="TINYLLM_KERNELS is 'cuda', expected 'numba'.*'numpy'"):
        kernels.backend()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'matmull'"):
        kernels.matmull  # noqa: B018


@compiled_only
def test_nothing_compiles_after_warmup(monkeypatch):
    from tinyllm.kernels import jit
    from tinyllm.kernels.attention.visibility import EVERYTHING

    steps = list(warmup())
    assert [name for name, _, _ in steps] == [*examples(), "text", "learning"]
    assert [index for _, index, _ in steps] == list(range(1, len(kernels.TABLE) + 3))
    before = jit.signatures()
    for call in examples().values():
        call()
    big = np.ones((64, 3, 2, 32), "f")
    kernels.attention_forward(big[::-1], big.transpose(0, 1, 2, 3)[:, ::2], big[:, ::2], scale=1.0, visible=EVERYTHING)
    kernels.matmul(big[:, :, 0].swapaxes(1, 2), big[:, :, 1])
    monkeypatch.setattr(bpe, "LARGE", 1)
    tokenizer = BPETokenizer.train(["abc ab"] * 3, vocab_size=258)
    ids = tokenizer.encode_arrays(["abc \n" * 20_000, b"ab" * 500])[0]
    frozen = ids.copy()
    frozen.setflags(write=False)
    assert tokenizer.decode_bytes(ids) == tokenizer.decode_bytes(frozen) == b"abc \n" * 20_000
    assert jit.signatures() == before


@compiled_only
def test_one_signature_for_each_dtype():
    from tinyllm.kernels import jit

    for dtype in ("float32", "float64"):
        for call in examples(dtype).values():
            call()
        for mask in (np.ones((2, 3), bool), np.ones(3, bool)):
            kernels.softmax_forward(np.ones((2, 3), dtype), mask)
    ours = {name: count for name, count in jit.signatures().items() if name.startswith("tinyllm.kernels.")}
    with_int8 = {"tinyllm.kernels.product.matrix_vector._multiply_few"}  # takes weights of the same dtype, or int8
    too_many = {name: count for name, count in ours.items() if count > (4 if name in with_int8 else 2)}
    assert ours and not too_many


@compiled_only
def test_fastmath_keeps_nan_and_infinity():
    from tinyllm.kernels import jit

    assert jit.FASTMATH <= {"contract", "reassoc", "nsz", "arcp", "afn"}
    for kernel in jit.KERNELS:
        fast = set(kernel.targetoptions["fastmath"])  # none where sums are rounded as in a twin that must choose alike
        assert fast in (jit.FASTMATH, set()) and kernel.targetoptions["error_model"] == "numpy"


@compiled_only
def test_code_on_disk_is_stale_as_soon_as_any_file_it_is_made_from_has_changed(monkeypatch):
    from tinyllm.kernels import jit

    sources = jit._sources()
    assert set(kernels.TABLE.values()) <= sources.keys()
    shared, built = jit.source_fingerprint(), jit.build_fingerprint()
    for name in ("product.register_tile", "attention.tiles", "simd_math"):  # each is compiled into kernels of other files
        changed = {**sources, name: sources[name] + b"#"}
        monkeypatch.setattr(jit, "_sources", lambda changed=changed: changed)
        assert shared != jit.source_fingerprint() and built != jit.build_fingerprint()


@compiled_only
def test_second_process_compiles_nothing(tmp_path):
    assert python(ONE_KERNEL + COUNT, NUMBA_CACHE_DIR=tmp_path)[1] == "1"
    assert python(ONE_KERNEL + COUNT, NUMBA_CACHE_DIR=tmp_path)[1] == "0"


@compiled_only
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_torn_cache_file_means_compiling_again(tmp_path, ending):
    first = python(ONE_KERNEL + COUNT, NUMBA_CACHE_DIR=tmp_path)
    for path in tmp_path.rglob(f"*.{ending}"):
        path.write_bytes(path.read_bytes()[:20])
    assert python(ONE_KERNEL + COUNT, NUMBA_CACHE_DIR=tmp_path) == first
    assert python(ONE_KERNEL + COUNT, NUMBA_CACHE_DIR=tmp_path)[1] == "0"


@compiled_only
def test_kernels_run_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    expected = python(ONE_KERNEL)
    assert python(ONE_KERNEL, NUMBA_CACHE_DIR=tmp_path / "file" / "below") == expected
    assert python(ONE_KERNEL, NUMBA_CACHE_DIR=None, HOME=None, XDG_CACHE_HOME=None) == expected


@compiled_only
def test_threads_sleep_unless_the_user_says_otherwise():
    code = "import os, tinyllm.kernels.jit; print(os.environ['OMP_WAIT_POLICY'])"
    assert python(code, OMP_WAIT_POLICY=None) == ["PASSIVE"]
    assert python(code, OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE"]

"""Settings shared by every test: repeatable examples, and worker processes that neither compile twice nor share a core.

python -m pytest -n auto            a worker process a core (pytest-xdist), one kernel thread each
python -m pytest tests/ops          this process alone, without the start of workers
python -m pytest --none-skipped     a test that is skipped counts as failed: for the machine that has everything
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tiny_models", "hand_made_models"]  # fixtures that the tests of several folders share

settings.register_profile(
    "tinyllm",
    deadline=None,  # the first example of a kernel compiles it
    max_examples=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("few", settings.get_profile("tinyllm"), max_examples=5)  # pytest --hypothesis-profile=few
settings.load_profile("tinyllm")


def pytest_addoption(parser):
    """--none-skipped."""
    parser.addoption("--none-skipped", action="store_true", help="fail if a test was skipped")


def pytest_configure(config):
    """With workers: every kernel compiled, once, before they start; then one kernel thread in each of them."""
    if hasattr(config, "workerinput"):
        use_one_thread()
    elif getattr(config.option, "numprocesses", None):
        config.option.dist = "worksteal"  # the last tests are the longest: who is done takes some of the others'
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when a worker loads NumPy
        compile_kernels()


def use_one_thread():
    """One kernel thread here and in the programs that tests start; a test may still ask Numba for more, to compare."""
    from tinyllm import kernels

    if kernels.backend() == "numba":
        kernels.threading_layer()  # its threads are there from now on, as many as there are cores
        import numba

        numba.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def compile_kernels():
    """Fill the cache on the disk, both number types at a time: otherwise each worker would compile what it meets first."""
    from tinyllm import kernels

    if kernels.backend() == "numpy":
        return
    root = Path(kernels.__file__).parents[2]
    start = [sys.executable, "-m", "tinyllm", "warmup", "--dtype"]
    print("compiling the kernels, once", flush=True)
    children = [subprocess.Popen([*start, dtype], cwd=root, stdout=subprocess.DEVNULL) for dtype in ("float32", "float64")]
    failed = [child.args for child in children if child.wait()]
    if failed:
        raise pytest.UsageError(f"{' '.join(failed[0])} failed: see above")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """With --none-skipped, skipped tests make the run fail (asked where the reports of all workers come together)."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if session.config.option.none_skipped and skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line("--none-skipped: " + ", ".join(report.nodeid for report in skipped), red=True)

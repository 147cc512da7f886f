"""`tinyllm doctor`: what it finds, and what it says of what is missing."""

import importlib.metadata

import pytest

from tinyllm.cli.main import main
from tinyllm.report import machine
from tinyllm.storage import install_command


def test_a_healthy_machine_exits_with_0_and_names_what_matters(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for topic in ("python", "numpy", "numba", "regex", "cores", "memory", "back end", "BLAS"):
        assert f"\n  {topic} " in shown
    assert shown.endswith("tinyllm can be used.\n")


def test_the_numpy_back_end_is_told_to_be_slow(monkeypatch):
    monkeypatch.setenv("TINYLLM_KERNELS", "numpy")
    findings = {finding.topic: finding for finding in machine.compute(all_compiled=lambda: True)}
    assert findings["back end"].value == "numpy"
    assert "unset TINYLLM_KERNELS" in findings["back end"].advice
    assert "vector width" not in findings


def test_the_numba_back_end_shows_width_threads_layer_and_cache(monkeypatch):
    monkeypatch.setenv("TINYLLM_KERNELS", "numba")
    findings = {finding.topic: finding.value for finding in machine.compute(all_compiled=lambda: True)}
    assert findings["vector width"].split()[0] in ("128", "256", "512")
    assert int(findings["threads"].split()[0]) >= 1
    assert findings["threading layer"] in ("omp", "tbb", "workqueue")
    assert "compiled code" in findings


@pytest.mark.parametrize(("name", "code"), [("numba", 1), ("tqdm", 0)])
def test_what_is_missing_is_named_with_how_to_get_it(name, code, monkeypatch, capsys):
    version = importlib.metadata.version

    def without(package):
        if package == name:
            raise importlib.metadata.PackageNotFoundError
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert main(["doctor"]) == code
    shown = capsys.readouterr().out
    line = next(line for line in shown[shown.index("Advice") :].splitlines() if line.split()[:1] == [name])
    assert line.endswith(install_command("ui" if name == "tqdm" else ""))


def test_a_package_that_does_not_load_is_fatal(monkeypatch):
    def broken(name):
        raise ImportError("libfoo.so is missing")

    monkeypatch.setattr(machine.importlib, "import_module", broken)
    finding = machine._package("numpy", "", fatal=True)
    assert (finding.value, finding.fatal) == ("broken", True)
    assert "libfoo.so is missing" in finding.advice


def test_the_cache_of_compiled_code(tmp_path):
    empty, full = tmp_path / "a", tmp_path / "b"
    empty.mkdir()
    full.mkdir()
    (full / "kernel.nbc").write_bytes(bytes(2_000_000))
    assert "tinyllm warmup" in machine._cache(empty, tmp_path, lambda: False).advice
    assert "writable, 1 kernels, 2.0 MB; 1 of other versions" in machine._cache(full, tmp_path, lambda: True).value
    assert machine._cache(full, tmp_path, lambda: True).advice == ""
    assert "cannot be written" in machine._cache(None, tmp_path, lambda: True).value
    assert "NUMBA_CACHE_DIR" in machine._cache(None, None, lambda: True).advice

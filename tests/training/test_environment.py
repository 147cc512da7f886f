"""Facts about the description of the environment."""

import json
import subprocess
import sys

from tinyllm.training.environment import describe_environment, environment_differences


def test_it_names_what_bits_depend_on():
    environment = describe_environment()
    assert environment.keys() == {
        "python", "numpy", "numba", "llvmlite", "system", "processor", "instructions", "threads", "kernels"
    }  # fmt: skip
    assert json.loads(json.dumps(environment)) == environment and int(environment["threads"]) >= 1


def test_differences_are_told_in_words():
    here = describe_environment()
    assert environment_differences(here) == []
    assert environment_differences(here | {"numpy": "1.0"}) == [f"numpy was 1.0, is {here['numpy']}"]
    assert environment_differences({k: v for k, v in here.items() if k != "python"})[0].startswith("python was None")


def test_another_number_of_threads_makes_no_difference_to_the_kernels_but_to_blas(monkeypatch):
    monkeypatch.setenv("TINYLLM_KERNELS", "numba")
    assert environment_differences(describe_environment() | {"threads": "96"}) == []
    monkeypatch.setenv("TINYLLM_KERNELS", "numpy")
    assert environment_differences(describe_environment() | {"threads": "96"})[0].startswith("threads was 96, is ")


def test_code_for_other_instructions_is_a_difference_although_the_processor_has_the_same_name(monkeypatch):
    here = describe_environment()
    monkeypatch.setenv("NUMBA_CPU_NAME", "haswell")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+avx2,+fma")
    (text,) = environment_differences(here)
    assert text.startswith(f"instructions was {here['instructions']}, is haswell avx2 ")


def test_describing_does_not_import_numba():
    program = "import sys; from tinyllm.training import environment as e; e.describe_environment()"
    program += "; assert 'numba' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0

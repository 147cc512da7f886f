"""Facts about the description of the environment."""

import json
import subprocess
import sys

from tinyllm.training.environment import describe_environment, environment_differences


def test_it_names_what_bits_depend_on():
    environment = describe_environment()
    assert environment.keys() == {
        "python", "numpy", "numba", "llvmlite", "system", "processor", "threads", "kernels"
    }  # fmt: skip
    assert json.loads(json.dumps(environment)) == environment and int(environment["threads"]) >= 1


def test_differences_are_told_in_words():
    here = describe_environment()
    assert environment_differences(here) == []
    assert environment_differences(here | {"numpy": "1.0"}) == [f"numpy was 1.0, is {here['numpy']}"]
    assert environment_differences({k: v for k, v in here.items() if k != "threads"})[0].startswith("threads was None")


def test_describing_does_not_import_numba():
    program = "import sys; from tinyllm.training import environment as e; e.describe_environment()"
    program += "; assert 'numba' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0

"""The README's code is run as it stands, and what it promises about files and commands is looked up."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tour_runs_and_prints_what_the_readme_shows(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 1, "one tour, so that a reader knows where to begin"
    done = subprocess.run([sys.executable, "-c", blocks[0]], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    losses = [float(word) for word in re.findall(r"loss (\d+\.\d+)", done.stdout)]
    assert losses[-1] < 1.0 < losses[0], done.stdout


def test_every_path_in_the_annotated_tree_exists():
    tree = re.search(r"```text tree\n(.*?)```", README, re.S)[1]
    paths = [line.split()[0] for line in tree.splitlines() if line.strip()]
    assert len(paths) > 15
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


def test_every_package_is_in_the_tree():
    packages = {path.parent.name for path in (ROOT / "tinyllm").glob("*/__init__.py")}
    missing = [name for name in packages if f"tinyllm/{name}/" not in README]
    assert not missing


def test_every_verb_in_the_readme_is_one_that_the_command_knows():
    sys.path.insert(0, str(ROOT))
    from tinyllm.cli.main import VERBS

    named = set(re.findall(r"^ *(?:\.venv/bin/)?tinyllm (\w+)", README, re.M))
    assert named and named <= set(VERBS)


def test_every_example_is_listed():
    missing = [path.name for path in (ROOT / "examples").glob("[0-9]*.py") if path.name not in README]
    assert not missing

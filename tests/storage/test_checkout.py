"""What hints tell to install: this checkout, never a name on the public index."""

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm.storage import checkout, install_command

ROOT = Path(__file__).parents[2]


def test_the_hint_names_this_checkout_and_the_extra(monkeypatch):
    monkeypatch.setattr(checkout, "_pip", lambda: "pip")
    assert shlex.split(install_command("serve")) == ["pip", "install", "-e", f"{ROOT}[serve]"]
    assert shlex.split(install_command()) == ["pip", "install", "-e", str(ROOT)]


def test_a_path_with_a_space_stays_one_word(tmp_path, monkeypatch):
    place = tmp_path / "my tiny llm"
    place.mkdir()
    (place / "setup.cfg").touch()
    monkeypatch.setattr(checkout, "CHECKOUT", place)
    assert shlex.split(install_command("ui"))[-1] == f"{place}[ui]"


def test_without_a_checkout_the_hint_says_that_one_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "CHECKOUT", tmp_path)
    assert install_command("serve").endswith("install -e '.[serve]', in a checkout of tinyllm")


@pytest.mark.parametrize("first", ["own", "other"])
def test_pip_is_that_of_the_interpreter_that_runs(first, tmp_path, monkeypatch):
    """With another environment's pip in front, the plain word would install there."""
    folder = Path(sys.executable).parent if first == "own" else tmp_path
    if first == "other":
        (tmp_path / "pip").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "pip").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    words = shlex.split(install_command("ui"))
    runs = subprocess.run([*words[: words.index("install")], "--version"], capture_output=True, text=True)
    assert runs.returncode == 0 and str(Path(sys.prefix)) in runs.stdout


TEXTS = [*ROOT.glob("*.md"), ROOT / "setup.cfg", *(path for name in ("tinyllm", "examples", "benchmarks") for path in
         (ROOT / name).rglob("*") if path.suffix in (".py", ".md", ".html", ".js"))]  # fmt: skip


def test_no_text_of_the_project_tells_to_install_a_name_from_the_public_index():
    """`pip install tinyllm` would run a stranger's code: every hint installs the checkout (-e), or is made by install_command."""
    found = []
    for path in TEXTS:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            for words in re.findall(r"pip[\w./]* install((?: +[^`\s]+)+)", line):
                target = next((word for word in words.split() if not word.startswith("-")), "")
                if "-e" not in words.split() or not target.strip("'\"").startswith((".", "/", "{")):
                    found.append(f"{path.name}:{number}: {line.strip()}")
    assert found == []


def test_the_distribution_has_a_name_of_its_own_and_the_import_name_stays():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    assert settings["metadata"]["name"] == "tinyllm-from-scratch"
    assert settings["options.packages.find"]["include"] == "tinyllm*"
    assert settings["options.entry_points"]["console_scripts"].strip() == "tinyllm = tinyllm.cli.main:main"

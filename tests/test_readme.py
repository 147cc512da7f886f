"""README's commands are run, in the order in which they stand, in one folder; what it says of files and verbs is looked up.

The two set-up lines run in a shell, for real: a new virtual environment is made, activated, and the checkout installed into it by
pip, with its extras. Two things differ from a newcomer's machine, so that it takes seconds and no network: pip finds the
packages of this test's environment in place of an index (every requirement is still resolved, and a missing one fails), and the
last command of each line only shows that it is found and begins. The commands after that go word by word to the `main` that the
installed command calls, with small settings appended (SMALL) and, for quickstart, a small plan; `label serve` runs as a process
of its own and is ended by Ctrl-C, as a person would.
"""

import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from interrupts import heed_ctrl_c

from tinyllm.cli import quickstart
from tinyllm.cli.main import VERBS, build_parser, main
from tinyllm.recipes.plan import Plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.S)
SET_UP, COMMANDS = BLOCKS[:2], [line.split("  #")[0].strip() for line in BLOCKS[2].splitlines()]
TRAINING = "--batch-size 2 --warmup-steps 0 --checkpoint-interval 0".split()
SMALL = {  # the words that a command begins with -> what is appended
    "train": "--max-steps 6 --max-bytes 150000 --vocab-size 600 --n-layers 1 --n-heads 2 --d-model 8 --eval-interval 6 "
    "--eval-batches 1 --sample-tokens 4".split()
    + TRAINING,
    "generate": "--max-new-tokens 8".split(),
    "evaluate": "--max-windows 2".split(),
    "finetune": "--max-steps 2 --n-made 60 --eval-batches 1".split() + TRAINING,
    "label make": "--n-prompts 4 --max-new-tokens 8".split(),
    "label serve": "--port 0".split(),
    "reward": TRAINING,
    "rl": "--max-steps 2 --n-answers 4 --minibatch-size 4 --epochs 1 --max-new-tokens 6 --warmup-steps 0".split(),
    "dpo": "--max-steps 2 --eval-batches 1".split() + TRAINING,
    "bench": "--steps 2 --batch-size 1 --n-layers 1 --block-size 16".split(),
    "chat": "--max-new-tokens 4".split(),
}


def small(words):
    """The words of a command with its small settings behind them."""
    verb = " ".join(words[1:3]) if words[1] == "label" else words[1]
    return [*words[1:], *SMALL.get(verb, ())]


# ---- the set-up lines


def clone(folder):
    """A folder that looks like a clone: links to what is here."""
    folder.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "tinyllm", "tests"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def in_shell(line, folder):
    """What the line prints in a shell without an active environment, whose pip knows this test's packages and no index."""
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONHOME")}
    places = [str(Path(sys.base_prefix) / "bin"), *os.environ["PATH"].split(os.pathsep)]
    environment |= {
        "PATH": os.pathsep.join(place for place in places if Path(place) != Path(sys.prefix) / "bin"),
        "PYTHONPATH": sysconfig.get_paths()["purelib"],
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "false",  # pip reads it so: do not isolate
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_set_up_lines_make_an_environment_in_which_tinyllm_and_pytest_are_found(tmp_path):
    checkout = clone(tmp_path / "tinyllm")
    (first, quick), (second, tests) = (line.strip().rsplit(" && ", 1) for line in SET_UP)
    assert (quick, tests) == ("tinyllm quickstart", "python -m pytest -n auto")
    assert second == first.replace("[ui,serve]", "[test,ui,serve]") != first
    found = f"{quick} --help && command -v tinyllm && pip list && {tests} -n 0 --collect-only -q tests/storage/test_manifest.py"
    shown = in_shell(f"{first} && {found}", checkout)
    assert "the whole journey" in shown and f"{checkout}/.venv/bin/tinyllm" in shown
    (record,) = checkout.glob(".venv/lib/python*/site-packages/tinyllm_from_scratch-*.dist-info/direct_url.json")
    assert json.loads(record.read_text())["url"] == checkout.as_uri(), "installed from the checkout"
    assert re.search(r"^starlette ", shown, re.M), "label serve has what it needs"
    assert re.search(r"test_manifest.py: \d+", shown)


def test_what_makes_a_clean_checkout_ready_is_what_the_readme_says():
    script, command = (ROOT / ".ci" / "run").read_text(), SET_UP[1].strip().rsplit(" && ", 1)[1]
    assert "--editable '.[test,ui,serve" in script and f"\n.venv/bin/{command}" in script


# ---- the commands behind them


def walk(folder):
    """(command, exit code, what it printed) of each of README's commands, quickstart first, all in `folder`."""
    text = folder / "words.txt"
    text.write_text("".join(f"The list of {i} has {i + 1} items.\n\n" for i in range(900)))
    done = [("tinyllm quickstart", travel(str(text)), "")]
    for command in COMMANDS:
        words = small(shlex.split(command))
        done.append((command, *(serve(words) if words[:2] == ["label", "serve"] else run(words))))
    return done


def travel(text):
    """quickstart on a small text."""
    plan = Plan(data=(f"prose={text}:1",), vocab_size=700, block_size=160, n_layers=1, n_heads=2, d_model=8, base_batch=2,
                tuned_batch=4, n_tokenizer_conversations=200, n_stories=20, n_test=20, best_of=2)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr("tinyllm.recipes.quickstart.SECONDS_OF_TIMING", 0.0)
        return quickstart.run(build_parser().parse_args(["quickstart", "--steps", "1"]), plan)


def run(words):
    """(exit code, output) of a command whose input is one line."""
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        patch.setattr(sys, "stdin", io.StringIO("Hello!\n"))
        return main(words), shown.getvalue()


def serve(words):
    """(exit code, output) of the labeler's server, ended by Ctrl-C when it has said where it is."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tinyllm", *words]
    with subprocess.Popen(command, preexec_fn=heed_ctrl_c, env=environment, text=True, stdout=subprocess.PIPE) as process:
        shown = "".join(process.stdout.readline() for _ in range(4))
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    return process.returncode, shown + rest


def test_every_command_and_the_python_snippet_run_as_written_in_order_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = walk(tmp_path)
    assert [(command, shown[-600:]) for command, code, shown in done if code != 0] == []
    assert [command for command, _, _ in done][1:] == COMMANDS and len(COMMANDS) > 12
    for name in ("mine", "chat", "reward", "ppo", "dpo", "quickstart"):
        assert (tmp_path / "runs" / name / "model" / "model.safetensors").exists(), name
        assert (tmp_path / "runs" / name / "report.html").exists(), name
    for word, expected in (("evaluate", "bits"), ("serve", "open this address"), ("export", "pairs"), ("doctor", "can be used")):
        assert [shown for command, _, shown in done if word in command and expected in shown], word
    load, recipe = re.findall(r"```python\n(.*?)```", README, re.S)
    for block, most in ((load, 5), (recipe, 10)):
        assert len([line for line in block.splitlines() if line.strip()]) <= most
    assert float(in_python(load, tmp_path).splitlines()[-1]) < 0, "a log-probability"
    assert "max_steps=500" in recipe
    shown = in_python(recipe.replace("max_steps=500", "max_steps=2"), tmp_path)
    assert re.fullmatch(r"runs/by_hand \d+\.\d+", shown.splitlines()[-1]) and "Stepped(label='finetuning'" in shown


def in_python(snippet, folder):
    """What a snippet prints, in the folder that README's commands have filled."""
    command, environment = [sys.executable, "-c", snippet], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- what it says


def test_it_is_short():
    assert len(README.split()) <= 1320, "a front door; figures and guarantees stand in benchmarks/README.md"


def test_the_five_files_to_start_with_are_under_a_thousand_lines():
    """A reader can hold us to it."""
    sentence = re.search(r"Start with these five: (.*?)\. ", README, re.S)[1]
    paths = re.findall(r"`(\S+\.py)`", sentence)
    assert len(paths) == 5
    assert sum(len((ROOT / "tinyllm" / path).read_text().splitlines()) for path in paths) < 1000


def test_every_path_exists():
    house = re.search(r"```text house\n(.*?)```", README, re.S)[1]
    paths = [word for word in house.split() if word.endswith("/")]
    paths += [f"tinyllm/{path}" for path in re.findall(r"`(\w+/\w+\.py)`", README) if not path.startswith("examples/")]
    paths += re.findall(r"\]\((?!#|https?:)([^)#]+)", README) + re.findall(r"`(examples/\S+\.py)`", README)
    assert len(paths) > 50
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_three_pictures_are_small_and_have_words_for_who_cannot_see_them():
    pictures = re.findall(r"!\[([^\]]+)\]\((docs/[^)]+)\)", README)
    assert len(pictures) == 3 and all(len(words) > 10 for words, _ in pictures)
    assert all(1000 < (ROOT / path).stat().st_size < 150_000 for _, path in pictures)


def test_every_package_is_in_the_house_on_its_floor():
    from test_architecture import FLOOR_OF

    house = re.search(r"```text house\n(.*?)```", README, re.S)[1]
    shown = {package: int(floor) for floor, package in re.findall(r"^ ?(\d+)  tinyllm/(\w+)/", house, re.M)}
    existing = {path.parent.name for path in (ROOT / "tinyllm").glob("*/__init__.py")}
    assert shown == {package: FLOOR_OF[package] for package in existing}


def test_every_verb_is_one_that_the_command_knows():
    named = {shlex.split(command)[1] for command in COMMANDS}
    assert named <= set(VERBS) and len(named) > 10


def test_every_example_is_listed():
    assert [path.name for path in (ROOT / "examples").glob("[0-9]*.py") if path.name not in README] == []

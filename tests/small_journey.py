"""Quickstart in small, a journey of seconds: for the tests that stop it and let it go on."""

import contextlib
import json
from functools import partial
from pathlib import Path
from unittest import mock

import every_trainer

from tinyllm.cli import quickstart
from tinyllm.cli.main import main
from tinyllm.recipes import quickstart as recipe
from tinyllm.recipes.plan import Plan
from tinyllm.storage import safetensors

STAGES = ("base", "tuned", "reward", "improved")
STEPS = 4


def small(folder):
    """quickstart's settings in small; its text lies beside the folder of the journey."""
    text = folder.parent / "numbers.txt"
    if not text.exists():
        text.write_text("".join(f"The number after {i} is {i + 1}.\n\n" for i in range(200)))
    plan = Plan(
        data=(f"prose={text}:3", f"more={text}:1"), vocab_size=700, block_size=160, n_layers=1, n_heads=2, d_model=8,
        base_batch=2, tuned_batch=4, n_tokenizer_conversations=200, n_test=20, best_of=2,
    )  # fmt: skip
    yield mock.patch.object(recipe, "SECONDS_OF_TIMING", 0.0)
    yield mock.patch.object(quickstart, "run", partial(quickstart.run, plan=plan))


def run(folder, *, resume=False):
    """The journey in `folder`, or the rest of it."""
    words = ["quickstart", "--steps", str(STEPS), "--out", str(folder)]
    with contextlib.ExitStack() as stack:
        for patch in small(folder):
            stack.enter_context(patch)
        code = main([*words, "--resume"] if resume and (folder / "plan.json").exists() else words)
    if code:
        raise SystemExit(code)


def end_of(folder):
    """What two journeys must have in common at their end: every stage's bits and log, samples, answers, labels, the assistant."""
    found = {stage: every_trainer.end_of(folder / stage) for stage in STAGES}
    for file in sorted(folder.rglob("*.safetensors")):
        if "checkpoints" not in file.parts:
            arrays = safetensors.load(file).items()
            found[str(file.relative_to(folder))] = {name: array.tobytes() for name, array in arrays}
    for name in ("base/samples.jsonl", "labels/items.jsonl", "base/tokenizer/tokenizer.json", "improved/comparisons.jsonl"):
        found[name] = (folder / name).read_bytes() if (folder / name).exists() else None
    found["labels"] = sorted(simulated_labels(folder), key=lambda label: label["item"])
    found["reports"] = sorted(str(file.relative_to(folder)) for file in folder.rglob("report.html"))
    return found


def simulated_labels(folder):
    """The simulated labeler's labels, without the time."""
    for line in (folder / "labels" / "labels.jsonl").read_text().splitlines():
        label = _parse(line)
        if label and label["labeler"] == "simulated":
            yield {name: value for name, value in label.items() if name != "time"}


def add_label_of_a_person(folder, name):
    """Appends a label of `name` to the journey's labels, if there are any yet; the line, or None."""
    file = Path(folder) / "labels" / "labels.jsonl"
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    if not lines or not (label := _parse(lines[0])):
        return None
    line = (json.dumps(label | {"labeler": name, "key": f"of {name}"}) + "\n").encode()
    with open(file, "ab") as out:
        out.write((b"" if lines[-1].endswith(b"\n") else b"\n") + line)
    return line


def _parse(line):
    """The label in a line, None for one that a crash tore."""
    try:
        return json.loads(line)
    except ValueError:
        return None

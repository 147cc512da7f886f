"""Stops at random moments: every trainer and every stage of quickstart, and what they end with when they go on.

python tests/random_stops.py                      200 of them
python tests/random_stops.py --first 60 --stops 20    from the 60th on: a stop follows from its number, so parts add up
python tests/random_stops.py --only dpo               of these, those of one trainer, of "trainers", or of quickstart ("journey")

A stop is SIGTERM or SIGKILL at a random function call of the program, whatever it is doing: reading text, training, saving.
Half of the runs are stopped a second time while they go on. In the end each must have the bits of weights, moments and
generators, the log, the samples, the answers and labels of a run that was never stopped; a person's label that was added
between two stops must be there; after SIGTERM in training no step may be lost; no half-written file may be left.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # read when Numba is loaded
    os.environ |= {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "1"}  # the layer that goes on in a forked process
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import every_trainer  # noqa: E402
import numpy as np  # noqa: E402
import small_journey  # noqa: E402

from tinyllm.training import latest_checkpoint, read_records  # noqa: E402
from tinyllm.training.checkpoint import list_checkpoints, read_state  # noqa: E402

Run = Callable[..., Any]  # run(folder, resume=)
JOURNEY = "journey"
SUBJECTS: dict[str, tuple[Run, Callable[[Path], Any]]] = {JOURNEY: (small_journey.run, small_journey.end_of)}
for _name in every_trainer.TRAINERS:
    SUBJECTS[_name] = partial(every_trainer.run, _name), every_trainer.end_of
SIGNALS = (signal.SIGTERM, signal.SIGKILL)


class Watch:
    """Counts function calls and does `action` at the n-th; `stages`: at which calls the stages of a journey began."""

    def __init__(self, n: int = 0, action: Callable[[], Any] = list):
        self.n, self.action, self.calls = n, action, 0
        self.stages: list[int] = []

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        """The profiler's hook."""
        if event != "call":
            return
        self.calls += 1
        name, file = frame.f_code.co_qualname, frame.f_code.co_filename
        if file.endswith("recipes/journey.py") and name.startswith("Journey.") and "._" not in name:
            self.stages.append(self.calls)
        if self.calls == self.n:
            sys.setprofile(None)
            self.action()


def in_child(work: Callable[[], Any]) -> int:
    """Forks; the child's exit code, or minus the signal that ended it. What it prints is thrown away."""
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        code = 99
        try:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            work()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 98
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def whole(run: Run, folder: Path) -> list[int]:
    """A run that is not stopped: the numbers of the calls at which its stages begin, and of the last call."""
    watch = Watch()
    null = os.open(os.devnull, os.O_WRONLY)
    shown = os.dup(1), os.dup(2)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        sys.setprofile(watch)
        run(folder)
    finally:
        sys.setprofile(None)
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in zip((1, 2), shown, strict=True):
            os.dup2(copy, stream)
    return [1, *watch.stages, watch.calls]


def stop(run: Run, folder: Path, *, at: int, number: int) -> int:
    """A run that gets the signal at its at-th call; its exit code."""

    def work() -> None:
        sys.setprofile(Watch(at, lambda: os.kill(os.getpid(), number)))
        run(folder, resume=True)

    return in_child(work)


def faults_after(folder: Path, code: int) -> list[str]:
    """What is wrong after a stop: no checkpoint may be torn, and one that was saved when asked to stop holds every step."""
    faults = []
    for log in folder.rglob("metrics.jsonl"):
        checkpoints = log.parent / "checkpoints"
        latest, there = latest_checkpoint(checkpoints), list_checkpoints(checkpoints)
        if latest != (there[-1] if there else None):
            faults.append(f"{there[-1].name} is torn")
        steps = [record["step"] for record in read_records(log) if record["event"] == "step"]
        saved = read_state(latest)["step"] if latest else 0
        if code == 143 and folder == log.parent and steps and steps[-1] > saved:
            faults.append(f"step {steps[-1]} was logged, but only {saved} saved")
    return faults


def one_stop(number: int, name: str, place: Path, calls: list[int], expected: Any, seed: int) -> tuple[str, list[str]]:
    """Stop number `number`: (what was done, what went wrong)."""
    run, end_of = SUBJECTS[name]
    rng, folder = np.random.default_rng([seed, number]), place / "run"
    shutil.rmtree(folder, ignore_errors=True)
    done, faults, labels = [], [], []
    for _ in range(1 + int(rng.integers(2))):
        stage = int(rng.integers(len(calls) - 1))
        at, which = int(rng.integers(calls[stage], calls[stage + 1] + 1)), SIGNALS[int(rng.integers(2))]
        code = stop(run, folder, at=at, number=which)
        done.append(f"{which.name} at call {at:,}: {code}")
        if code not in (0, 143, -which):
            faults.append(f"the exit code is {code}")
        faults += faults_after(folder, code)
        if name == JOURNEY and (line := small_journey.add_label_of_a_person(folder, f"person {len(labels)}")):
            labels.append(line)
    if code := in_child(lambda: run(folder, resume=True)):
        return "; ".join(done), [*faults, f"going on ended with {code}"]
    found = end_of(folder)
    faults += [f"another {part}" for part in expected if found[part] != expected[part]]
    faults += [f"{line!r} is lost" for line in labels if line not in (folder / "labels" / "labels.jsonl").read_bytes()]
    faults += [f"{path.name} is left" for kind in (".tmp-*", ".trash-*", "damaged-*") for path in folder.rglob(kind)]
    return "; ".join(done), faults


def subject_of(number: int) -> str:
    """Every fourth stop is quickstart's, the others take the trainers in turn."""
    trainers = list(every_trainer.TRAINERS)
    return JOURNEY if number % 4 == 3 else trainers[(number - number // 4) % len(trainers)]


def main() -> int:
    """Stops, goes on, compares; a line for each stop and a summary. 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stops", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", choices=["trainers", *SUBJECTS])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start, wrong, counts = time.monotonic(), 0, Counter[str]()
    known: dict[str, tuple[list[int], Any]] = {}
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as root:
        for number in range(args.first, args.first + args.stops):
            name = subject_of(number)
            if args.only not in (None, name) and not (args.only == "trainers" and name != JOURNEY):
                continue
            run, end_of = SUBJECTS[name]
            place = Path(root) / name
            if name not in known:
                place.mkdir()
                whole(run, place / "warm")  # what is loaded at first is loaded: the next ones make as many calls as a stopped one
                known[name] = whole(run, place / "whole"), end_of(place / "whole")
            done, faults = one_stop(number, name, place, *known[name], args.seed)
            counts[name], wrong = counts[name] + 1, wrong + bool(faults)
            print(f"{number:4} {name}: {done}: {', '.join(faults) or 'the same'}", flush=True)
    subjects = ", ".join(f"{name} {count}" for name, count in counts.items())
    n_done = counts.total()
    print(f"{n_done} stops, {n_done - wrong} ended the same, {time.monotonic() - start:.0f} s ({subjects})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

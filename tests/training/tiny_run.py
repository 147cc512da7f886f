"""A training run of a second, for the tests of the loop; also a program, so that it can be killed.

python tiny_run.py FOLDER [--resume]   trains in FOLDER
python tiny_run.py --kill N FOLDER     kills N runs in folders below FOLDER at random moments, prints a JSON report
"""

import argparse
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from tinyllm import ops
from tinyllm.data.text.windows import EvaluationWindows, RandomWindows
from tinyllm.models import GPT, GPTConfig
from tinyllm.storage import manifest, safetensors
from tinyllm.training import Stopped, TrainConfig, latest_checkpoint, open_run, read_records, train
from tinyllm.training.checkpoint import list_checkpoints
from tinyllm.training.metrics import MACHINE_FIELDS

MODEL = GPTConfig(vocab_size=13, block_size=6, n_layers=1, n_heads=2, d_model=8, dropout=0.2)
CONFIG = TrainConfig(
    max_steps=8, batch_size=2, gradient_accumulation=3, learning_rate=0.01, min_learning_rate=0.001, warmup_steps=2,
    eval_interval=4, eval_batches=2, checkpoint_interval=2, keep_last=2,
)  # fmt: skip


def loss_fn(model, batch, *, n_counted):
    """Next-token prediction."""
    return ops.cross_entropy(model(batch.tokens), batch.targets, loss_mask=batch.loss_mask, n_counted=n_counted)


def make(config=CONFIG, model_config=MODEL):
    """A fresh model, source and validation batches, all from config.seed."""
    model_rng, data_rng, text_rng = np.random.default_rng(config.seed).spawn(3)
    text = text_rng.integers(0, model_config.vocab_size, 500)
    sizes = {"batch_size": config.batch_size, "block_size": model_config.block_size}
    source = RandomWindows(text, rng=data_rng, **sizes)
    evaluation = list(EvaluationWindows(text[:50], max_windows=4, **sizes))
    return GPT(model_config, rng=model_rng), source, evaluation


def run_in(folder, *, resume=False, config=CONFIG, loss_fn=loss_fn, on_record=lambda record: None):
    """Trains in `folder`; returns the model and the records."""
    model, source, evaluation = make(config)
    records = []
    with open_run(folder, settings={"training": config, "model": model.config}, resume=resume) as run:
        for record in train(model, source, config=config, loss_fn=loss_fn, evaluation=evaluation, run=run):
            records.append(record)
            on_record(record)
    return model, records


def kill_runs(folder, n_kills, *, config, seed=0):
    """Kills `n_kills` runs, each at a random moment, and resumes each to its end; returns a report."""
    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    run_in(folder / "whole", config=config)
    duration = time.perf_counter() - start
    expected = final_bytes(folder / "whole")
    report = dict.fromkeys(("runs", "kills", "saved", "same", "same_log", "torn", "leftovers"), 0)
    while report["kills"] < n_kills:
        report["runs"] += 1
        place = folder / f"run-{report['runs']}"
        for delay in rng.random(2):  # killed twice: the second time while resumed
            killed = kill_after(delay * duration, place, config)
            report["kills"] += killed
            duration *= 1 if killed else 0.8  # the machine was slow when it was measured
            report["torn"] += sum(not verifies(path) for path in list_checkpoints(place / "checkpoints"))
            report["saved"] += latest_checkpoint(place / "checkpoints") is not None
        run_in(place, resume=True, config=config)
        report["same_log"] += final_log(place) == final_log(folder / "whole")
        report["same"] += final_bytes(place) == expected
        report["leftovers"] += len([*place.rglob(".tmp-*"), *place.rglob(".trash-*")])
    return report


def kill_after(delay, folder, config):
    """Forks a trainer and kills it after `delay` seconds; returns whether it was still alive then."""
    child = os.fork()
    if child == 0:
        warnings.simplefilter("ignore")
        run_in(folder, resume=True, config=config)
        os._exit(0)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def verifies(checkpoint):
    """Whether a checkpoint's files are those of its manifest."""
    try:
        manifest.verify(checkpoint)
    except ValueError:
        return False
    return True


def final_bytes(folder):
    """The bytes of the weights and moments in the last checkpoint."""
    latest = latest_checkpoint(folder / "checkpoints")
    files = ("model/model.safetensors", "optimizer.safetensors")
    tensors = [safetensors.load(latest / file) for file in files]
    return [(name, array.tobytes()) for part in tensors for name, array in sorted(part.items())]


def final_log(folder):
    """The log without what measures the machine."""
    return [{k: v for k, v in r.items() if k not in MACHINE_FIELDS} for r in read_records(folder / "metrics.jsonl")]


def main():
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill", type=int)
    parser.add_argument("--max-steps", type=int, default=CONFIG.max_steps)
    parser.add_argument("--slow", type=float, default=0.0)
    options = parser.parse_args()
    config = TrainConfig(**{**vars(CONFIG), "max_steps": options.max_steps})
    if options.kill:
        print(json.dumps(kill_runs(options.folder, options.kill, config=config)))
        return

    def slow_loss_fn(model, batch, *, n_counted):
        if model.training:
            print("micro-batch", flush=True)
            time.sleep(options.slow)
        return loss_fn(model, batch, n_counted=n_counted)

    try:
        run_in(options.folder, resume=options.resume, config=config, loss_fn=slow_loss_fn)
    except Stopped as stopped:
        print(stopped, flush=True)
        raise


if __name__ == "__main__":
    sys.exit(main())

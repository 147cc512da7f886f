"""Training: the loop around a model, and what makes a run survive crashes, signals and full disks.

Read `step.py` (one step), `loop.py` (all of them), then `checkpoint.py` and `resume.py` (stopping and going on).

    with open_run("runs/first", settings={"training": config, "model": model.config}) as run:
        for record in train(model, source, config=config, loss_fn=loss_fn, run=run):
            ...
"""

from tinyllm.training.checkpoint import TrainState, latest_checkpoint, load_weights, save_checkpoint
from tinyllm.training.config import TrainConfig
from tinyllm.training.loop import evaluate, make_optimizer, train
from tinyllm.training.memory import MemoryEstimate, available_memory, check_memory, estimate_memory
from tinyllm.training.metrics import EvalRecord, StepRecord, read_records
from tinyllm.training.model_folder import find_model, find_tokenizer, run_of
from tinyllm.training.run_folder import RunFolder, holds_work, open_run
from tinyllm.training.signals import Stopped, StopSignals
from tinyllm.training.step import NonFiniteStepError

__all__ = [
    "EvalRecord", "MemoryEstimate", "NonFiniteStepError", "RunFolder", "StepRecord", "StopSignals", "Stopped", "TrainConfig",
    "TrainState", "available_memory", "check_memory", "estimate_memory", "evaluate", "find_model", "find_tokenizer", "holds_work",
    "latest_checkpoint", "load_weights", "make_optimizer", "open_run", "read_records", "run_of", "save_checkpoint", "train",
]  # fmt: skip

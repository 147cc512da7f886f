"""From raw text to an assistant shaped by feedback, in one go: all recipes, on data made so that the truth is known.

    done = quickstart("runs/quickstart")
    done.rows                                what each step was good for, on the same test set
    done.model                               the assistant, also in runs/quickstart/model

Reads the documentation and the source code that come with every Python, learns a tokenizer from them, pre-trains a small GPT,
teaches it to answer, has its answers rated by a simulated labeler, learns what the labeler likes, and improves the model against
it by PPO. The stages are in `journey.py`, how much of everything there is in `plan.py`.
"""

import os
import statistics
import time
from pathlib import Path

import numpy as np

from tinyllm.data import Batch
from tinyllm.models import make_model
from tinyllm.pretraining import next_token_loss
from tinyllm.recipes.compile_ahead import ensure_compiled
from tinyllm.recipes.durations import format_seconds
from tinyllm.recipes.events import Chapter, Said, Show, silent
from tinyllm.recipes.journey import Assistant, Journey
from tinyllm.recipes.plan import Plan, read_plan
from tinyllm.storage.out_folder import is_free, refuse_unwritable
from tinyllm.training import TrainConfig
from tinyllm.training.loop import make_optimizer
from tinyllm.training.step import add_gradients, update_weights

SECONDS_OF_TIMING = 2.0  # of what is only said
KERNELS = (
    "Python is too slow for the inner loops of a neural network, so they are compiled to machine code, once: matrix products, "
    "attention, softmax and a few more."
)


def quickstart(out: str | Path, plan: Plan | None = None, *, resume: bool = False, show: Show = silent) -> Assistant:
    """The whole journey in the folder `out`; with `resume` the rest of one that was stopped there, by the plan it began with.

    ValueError for a folder that cannot be written, is used (and not resumed), or holds no journey to resume.
    """
    out = Path(os.path.expanduser(out))
    plan = _begin(out, plan or Plan(), resume=resume)
    show(Chapter(1, "The kernels", KERNELS))
    ensure_compiled(show)
    seconds = plan.cost() * seconds_per_step(plan)
    show(Said(f"   The whole journey takes about {format_seconds(seconds)} on this machine, if nothing else runs on it."))
    journey = Journey(out, plan=plan, show=show)
    journey.pretrain()
    journey.tune()
    journey.label()
    journey.learn_reward()
    journey.improve()
    return journey.compare()


def _begin(out: Path, plan: Plan, *, resume: bool) -> Plan:
    """The plan in the folder, or the new one, written there."""
    refuse_unwritable(out)
    file = out / "plan.json"
    if resume:
        if not file.exists():
            raise ValueError(f"out: {out} holds no journey to resume; leave --resume out to begin one")
        return read_plan(file)
    if not is_free(out):
        raise ValueError(f"out: {out} is not empty; add --resume to go on with a journey there, or choose another name")
    out.mkdir(parents=True, exist_ok=True)
    plan.save(file)
    return plan


def seconds_per_step(plan: Plan) -> float:
    """How long a step of pre-training takes here: for a moment a model is trained that is then thrown away."""
    rng = np.random.default_rng(0)
    model = make_model(plan.model(plan.vocab_size), rng=rng)
    optimizer = make_optimizer(model, TrainConfig())
    ids = rng.integers(0, plan.vocab_size, (plan.base_batch, plan.block_size + 1))
    batch = Batch(ids[:, :-1], ids[:, 1:])
    times: list[float] = []
    while len(times) < 8 or sum(times) < SECONDS_OF_TIMING:
        begin = time.perf_counter()
        add_gradients(model, batch, loss_fn=next_token_loss, n_counted=batch.n_counted)
        update_weights(optimizer, learning_rate=1e-3, grad_clip=1.0)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[len(times) // 2 :])  # the first ones are slower: caches, fresh memory

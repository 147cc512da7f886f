"""Every trainer in small, each a function that makes it anew: for the tests that stop them and let them go on.

python every_trainer.py FOLDER      goes on with every trainer below FOLDER, and ends it

Seven steps of two micro-batches, in epochs of three to five batches, so that stops fall before, at and after an epoch's seam;
dropout where the algorithm allows it, held-out data evaluated every third step, a checkpoint every second.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent / "rlhf")]

import tiny_rl  # noqa: E402

from tinyllm.data import MixtureWindows, PackedConversations, PaddedConversations, conversation_batches, mix  # noqa: E402
from tinyllm.data.text.windows import EvaluationWindows  # noqa: E402
from tinyllm.finetuning import LabelledTexts, answer_loss, classification_loss, labelled_batches  # noqa: E402
from tinyllm.models import GPT, GPTConfig, RewardModel, SequenceClassifier  # noqa: E402
from tinyllm.nn import add_lora  # noqa: E402
from tinyllm.pretraining import next_token_loss  # noqa: E402
from tinyllm.rlhf.comparisons import ComparedAnswers  # noqa: E402
from tinyllm.rlhf.dpo import DPO, LOSSES, PreferencePairs  # noqa: E402
from tinyllm.rlhf.reward_model import PreferenceGroups, pair_batch, preference_loss  # noqa: E402
from tinyllm.storage import safetensors  # noqa: E402
from tinyllm.training import TrainConfig, latest_checkpoint, open_run, read_records, train  # noqa: E402
from tinyllm.training.metrics import MACHINE_FIELDS  # noqa: E402

MODEL = GPTConfig(vocab_size=13, block_size=16, n_layers=1, n_heads=2, d_model=8, dropout=0.2, init_std=0.2)
CONFIG = TrainConfig(
    max_steps=7, batch_size=2, gradient_accumulation=2, learning_rate=0.02, min_learning_rate=0.002, warmup_steps=1, seed=1,
    eval_interval=3, eval_batches=2, checkpoint_interval=2, keep_last=1,
)  # fmt: skip
SHAPE = {"batch_size": CONFIG.batch_size, "block_size": MODEL.block_size}


@dataclass
class Job:
    """What `train` is given."""

    model: Any
    source: Any
    loss_fn: Callable
    evaluation: list = field(default_factory=list)
    measure: Callable = dict


def rng(*key):
    """A generator of its own for each use."""
    return np.random.default_rng([7, *key])


def make_model():
    """A GPT with dropout."""
    return GPT(MODEL, rng=rng(0))


def next_token():
    """Pre-training on a mixture of two sources."""
    ids = {name: rng(1, i).integers(0, MODEL.vocab_size, 200) for i, name in enumerate(("prose", "code"))}
    mixture = mix(ids, {"prose": 200, "code": 200}, {"prose": 3.0, "code": 1.0})
    held_out = list(EvaluationWindows(rng(1, 9).integers(0, MODEL.vocab_size, 80), **SHAPE, max_windows=4))
    return Job(make_model(), MixtureWindows(mixture, **SHAPE, rng=rng(2)), next_token_loss, held_out)


def conversations(n, key):
    """Ids and masks."""
    lengths = rng(3, key).integers(5, 16, n)
    ids = [rng(3, key, i).integers(0, MODEL.vocab_size, length).tolist() for i, length in enumerate(lengths)]
    return [(one, [False, False, *[True] * (len(one) - 2)]) for one in ids]


def instructions(kind, *, lora=False):
    """Instruction tuning."""
    model = add_lora(make_model(), rank=2, alpha=4.0, rng=rng(4)) if lora else make_model()
    source = kind(conversations(9, 0), **SHAPE, rng=rng(5))
    return Job(model, source, answer_loss, conversation_batches(conversations(4, 1), **SHAPE))


def classification():
    """Texts with a label each."""
    texts = [ids for ids, _ in conversations(11, 2)]
    labels = [sum(ids) % 3 for ids in texts]
    source = LabelledTexts(texts[:7], labels[:7], batch_size=2, rng=rng(6))
    held_out = labelled_batches(texts[7:], labels[7:], batch_size=2)
    return Job(SequenceClassifier(make_model(), 3, rng=rng(7)), source, classification_loss, held_out)


def groups(n, key):
    """Prompts with two or three answers, compared."""
    made = []
    for i in range(n):
        draw = rng(8, key, i)
        answers = [draw.integers(2, 11, draw.integers(2, 6)).tolist() + [1] for _ in range(2 + i % 2)]
        pairs = np.array([(0, 1), (1, 2)][: len(answers) - 1])
        made.append(ComparedAnswers(draw.integers(2, 11, 3).tolist(), answers, pairs, np.ones(len(pairs), "f")))
    return made


def reward_model():
    """Bradley-Terry on groups of answers."""
    source = PreferenceGroups(groups(7, 0), batch_size=2, rng=rng(9))
    loss_fn = partial(preference_loss, center_coefficient=0.01, margin_scale=0.1)
    return Job(RewardModel(make_model(), rng=rng(10)), source, loss_fn, [pair_batch(groups(3, 1))])


def dpo(loss):
    """Direct preference optimisation, held-out pairs with the same reference."""
    model = make_model()
    pairs = PreferencePairs(groups(5, 0), reference=model, batch_size=2, rng=rng(11))
    held_out = PreferencePairs(groups(3, 1), reference=model, batch_size=2, rng=rng(12))
    objective = DPO(LOSSES[loss], beta=0.5)
    return Job(model, pairs, objective, [held_out.batch(np.arange(3)), held_out.batch(np.array([3]))], objective.measure)


def policy_gradient(kind, **changes):
    """PPO and its relatives; several minibatches a rollout, or one."""
    model, trainer = tiny_rl.make(kind, **changes)
    return Job(model, trainer, trainer.loss, measure=trainer.measure)


ADAPTIVE = {"kl_coefficient": 0.2, "kl_target": 0.5, "kl_horizon": 50}
TRAINERS: dict[str, Callable[[], Job]] = {
    "next token": next_token,
    "instructions, packed": partial(instructions, PackedConversations),
    "instructions, padded": partial(instructions, PaddedConversations),
    "lora": partial(instructions, PackedConversations, lora=True),
    "classification": classification,
    "reward model": reward_model,
    "dpo": partial(dpo, "dpo"),
    "ipo": partial(dpo, "ipo"),
    "ppo": partial(policy_gradient, "ppo", minibatch_size=3, epochs=2, stop_kl=0.05, **ADAPTIVE),
    "grpo": partial(policy_gradient, "grpo", minibatch_size=3, kl_coefficient=0.05),
    "rloo": partial(policy_gradient, "rloo", kl_coefficient=0.1),
    "reinforce": partial(policy_gradient, "reinforce"),
}


def run(name, folder, *, resume=False):
    """Trains, or goes on training, in `folder`; returns the model."""
    job = TRAINERS[name]()
    with open_run(folder, settings={"training": CONFIG}, resume=resume) as run_folder:
        how = {"loss_fn": job.loss_fn, "evaluation": job.evaluation, "measure": job.measure}
        for _ in train(job.model, job.source, config=CONFIG, run=run_folder, **how):
            pass
    return job.model


def end_of(folder):
    """What two runs must have in common at their end: bits of weights and moments, where data and generators stand, the log."""
    last = latest_checkpoint(folder / "checkpoints")
    state = json.loads((last / "state.json").read_text())
    arrays = {
        f"{file.relative_to(last)} {name}": (array.dtype.name, array.tobytes())
        for file in last.rglob("*.safetensors")
        for name, array in safetensors.load(file).items()
    }
    log = [
        {key: value for key, value in record.items() if key not in MACHINE_FIELDS}
        for record in read_records(folder / "metrics.jsonl")
    ]
    return {"arrays": arrays, "state": {name: state[name] for name in ("step", "source", "random")}, "log": log}


def main(folder):
    """Goes on with all that were begun."""
    for name in TRAINERS:
        run(name, folder / name, resume=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

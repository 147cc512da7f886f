"""Direct preference optimisation: from pairs of answers straight to a better policy, without a reward model.

    dpo("runs/chat", ["pairs.jsonl"], out="runs/dpo")

Raises the probability of the chosen answers against that of the rejected ones, relative to the model it began with (Rafailov et
al. 2023; the losses are in `rlhf/dpo.py`).
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tinyllm.evaluation.before_after import answers_in_words, paired, write_comparisons
from tinyllm.models import Model
from tinyllm.recipes.events import Show, silent, watched
from tinyllm.recipes.inputs import MODEL, PAIRS
from tinyllm.recipes.reward import Comparisons, read_comparisons
from tinyllm.recipes.runs import TrainedModel
from tinyllm.recipes.tuning import TUNING, ReadingConfig, begin, load_for_chat, refuse_too_large, tuning_run
from tinyllm.report.rl import write_rl_report
from tinyllm.rlhf.dpo import DPO, LOSSES, PreferenceBatch, PreferencePairs
from tinyllm.storage.fields import check_choice, check_number
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import TrainConfig, train
from tinyllm.training.streams import stream

INPUTS = (MODEL, PAIRS)
N_COMPARED = 12  # held-out prompts whose answers before and after go into the report
SHOWN = {"reward_margin": "margin", "reward_accuracy": "accuracy", "chosen_log_prob": "chosen"}


@dataclass(frozen=True)
class DPOConfig:
    """Which loss, and its price of leaving the reference."""

    loss: str = "dpo"  # dpo, robust, ipo, length-normalised or simpo; see rlhf/dpo.py
    beta: float | None = None  # β, the price of leaving the reference (default: the loss's own, 0.1 for dpo)

    def __post_init__(self) -> None:
        check_choice(self, "loss", LOSSES)
        check_number(self, "beta", above=0, optional=True, hint=": it is the price of leaving the reference")

    @property
    def own_beta(self) -> float:
        """beta, or that which the loss has for default: losses of sums and of means over tokens differ by the length."""
        return inspect.signature(LOSSES[self.loss]).parameters["beta"].default if self.beta is None else self.beta


@dataclass(frozen=True)
class DPOSettings:
    """All settings of a run of `dpo`."""

    dpo: DPOConfig = field(default_factory=DPOConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    training: TrainConfig = replace(TUNING, learning_rate=1e-4, min_learning_rate=1e-5, max_steps=300)


def dpo(
    model: str | Path | None = None, preferences: Sequence[str] = (), *, out: str | Path, settings: DPOSettings | None = None,
    resume: bool = False, show: Show = silent,
) -> TrainedModel:  # fmt: skip
    """Train a policy on the pairs in files; `out` gets model/, answers from before and after, and report.html."""
    settings = settings or DPOSettings()
    seed = settings.training.seed
    start = begin(INPUTS, {"model": model, "preferences": preferences}, out=out, resume=resume, show=show)
    policy, tokenizer = load_for_chat(str(start.folder("model")), seed=seed)
    comparisons = read_comparisons(
        start.files("preferences"), tokenizer, block_size=policy.config.block_size, seed=seed, roles=settings.reading.roles,
        show=show,
    )  # fmt: skip
    n_pairs = sum(len(group.pairs) for group in comparisons.groups)
    training = replace(settings.training, batch_size=min(settings.training.batch_size, n_pairs))  # none twice in a batch
    settings = replace(settings, training=training)
    refuse_too_large(policy, rows=2 * training.batch_size)
    rng = stream(seed, "order of pairs")
    pairs = PreferencePairs(comparisons.groups, reference=policy, batch_size=training.batch_size, rng=rng)
    evaluation = _held_out_batches(policy, comparisons, training)
    chat, asked = ChatFormat(tokenizer), [group.prompt for group in comparisons.held_out[:N_COMPARED]]
    before = answers_in_words(policy, asked, chat=chat)
    objective = DPO(LOSSES[settings.dpo.loss], beta=settings.dpo.own_beta)
    with tuning_run(start, vars(settings), tokenizer=tokenizer, algorithm=settings.dpo.loss) as run:
        records = train(
            policy, pairs, config=training, loss_fn=objective, evaluation=evaluation, run=run, measure=objective.measure
        )
        last = watched(records, show, label="dpo", total=training.max_steps, metrics=SHOWN)
        policy.save_pretrained(run.path / "model", tokenizer)
        write_comparisons(run.path, paired(before, answers_in_words(policy, asked, chat=chat)))
        write_rl_report(run.path)
    return TrainedModel(start.out, policy, tokenizer, last)


def _held_out_batches(policy: Model, comparisons: Comparisons, training: TrainConfig) -> list[PreferenceBatch]:
    """The first held-out pairs, in batches."""
    rng, size = stream(training.seed, "order of held-out pairs"), training.batch_size
    held_out = PreferencePairs(comparisons.held_out, reference=policy, batch_size=size, rng=rng)
    indices = range(min(len(held_out.pairs), training.eval_batches * size))
    return [held_out.batch(indices[i : i + size]) for i in indices[::size]]

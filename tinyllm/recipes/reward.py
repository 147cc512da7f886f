"""A reward model, InstructGPT's second step: from pairs of answers to a model that says how good an answer is.

    done = reward("runs/chat", ["pairs.jsonl"], out="runs/reward")
    done.accuracy                        share of held-out pairs that it decides as the labelers did, and its standard error

A copy of the model with a head that gives each answer one number learns to give the preferred one the higher (Ouyang et al. 2022,
eq. 1; `rlhf/reward_model.py`). All pairs of a prompt share a batch, and each is seen once unless max_steps says otherwise.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tinyllm.data.conversations.preferences import Preference, read_preferences
from tinyllm.data.split import hold_out
from tinyllm.models import Model, RewardModel
from tinyllm.recipes.events import Record, Said, Show, silent, watched
from tinyllm.recipes.inputs import MODEL, PAIRS
from tinyllm.recipes.runs import saved_settings
from tinyllm.recipes.tuning import TUNING, ReadingConfig, begin, load_for_chat, refuse_too_large, tuning_run
from tinyllm.report.reward import measure_pairs, write_reward_report
from tinyllm.rlhf.comparisons import ComparedAnswers, EncodingReport, encode_preferences
from tinyllm.rlhf.policy_gradient import disable_dropout
from tinyllm.rlhf.reward_model import PreferenceGroups, compare_pairs, normalise, pair_accuracy, preference_loss
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.storage.fields import check_number
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import RunFolder, TrainConfig, train
from tinyllm.training.streams import stream

INPUTS = (MODEL, PAIRS)


@dataclass(frozen=True)
class RewardConfig:
    """The loss of a reward model, beside its training."""

    center_coefficient: float = 0.01  # keeps the mean reward near 0; see rlhf/reward_model.py
    margin_scale: float = 0.0  # times a pair's margin, the distance its rewards must keep; 0 = InstructGPT

    def __post_init__(self) -> None:
        check_number(self, "center_coefficient", "margin_scale", low=0)


@dataclass(frozen=True)
class RewardSettings:
    """All settings of a run of `reward`. `training.max_steps` counts only with `reward(..., one_epoch=False)`."""

    reward: RewardConfig = field(default_factory=RewardConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    training: TrainConfig = replace(TUNING, batch_size=8, learning_rate=5e-4, min_learning_rate=0.0, eval_interval=0)


@dataclass(frozen=True)
class Rewarded:
    """What a run gives. `accuracy`: share of the held-out prompts' pairs decided as labeled, and its standard error."""

    folder: Path
    model: RewardModel
    tokenizer: Tokenizer
    accuracy: tuple[float, float]
    n_held_out: int  # prompts


def reward(
    model: str | Path | None = None, preferences: Sequence[str] = (), *, out: str | Path, settings: RewardSettings | None = None,
    one_epoch: bool = True, resume: bool = False, show: Show = silent,
) -> Rewarded:  # fmt: skip
    """Train a reward model on the pairs in files; `out` gets model/ and report.html.

    one_epoch  as many steps as show each prompt once, whatever training.max_steps says; not for a run that is resumed
    """
    settings = settings or RewardSettings()
    start = begin(INPUTS, {"model": model, "preferences": preferences}, out=out, resume=resume, show=show)
    policy, tokenizer = load_for_chat(str(start.folder("model")), seed=settings.training.seed)
    comparisons = read_comparisons(
        start.files("preferences"), tokenizer, block_size=policy.config.block_size, seed=settings.training.seed,
        roles=settings.reading.roles, show=show,
    )  # fmt: skip
    given = not one_epoch or (resume and "training" in saved_settings(start.out))
    training = with_length(settings.training, comparisons, max_steps=settings.training.max_steps if given else None)
    settings = replace(settings, training=training)
    refuse_too_large(policy, rows=training.batch_size * max(len(group.answers) for group in comparisons.groups))
    with tuning_run(start, vars(settings), tokenizer=tokenizer) as run:
        task = train_reward(policy, comparisons, config=training, reward_config=settings.reward, run=run)
        watched(task.records, show, label="reward model", total=training.max_steps)
        accuracy = task.finish()
        finish_reward(task.model, comparisons, tokenizer, run=run)
    return Rewarded(start.out, task.model, tokenizer, accuracy, len(comparisons.held_out))


def with_length(training: TrainConfig, comparisons: Comparisons, *, max_steps: int | None) -> TrainConfig:
    """The training settings with `max_steps` (None: as many as show each prompt once), at most a tenth of them to warm up."""
    batch_size = min(training.batch_size, len(comparisons.groups))  # a larger one would hold prompts twice
    n_steps = max_steps or -(-comparisons.steps_per_epoch(batch_size) // training.gradient_accumulation)
    return replace(training, batch_size=batch_size, max_steps=n_steps, warmup_steps=min(training.warmup_steps, n_steps // 10))


@dataclass(frozen=True)
class Comparisons:
    """Compared answers as ids: those to learn from, those held out, and what was left out."""

    groups: list[ComparedAnswers]
    held_out: list[ComparedAnswers]
    report: EncodingReport

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches of `batch_size` prompts until each has been seen."""
        return -(-len(self.groups) // batch_size)


def read_comparisons(
    files: Sequence[str], tokenizer: Tokenizer, *, block_size: int, seed: int, roles: Mapping[str, str] | None = None,
    show: Show = silent,
) -> Comparisons:  # fmt: skip
    """The preferences in files as ids, some prompts held out; says what was left out and why."""
    preferences: list[Preference] = []
    for path in files:
        found, report = read_preferences(os.path.expanduser(path), roles=roles)
        preferences += found
        show(Said(f"Pairs: {report}"))
    comparisons = prepare_comparisons(preferences, tokenizer, block_size=block_size, seed=seed)
    show(Said(f"As ids: {comparisons.report}"))
    return comparisons


def prepare_comparisons(preferences: Sequence[Preference], tokenizer: Tokenizer, *, block_size: int, seed: int) -> Comparisons:
    """The preferences as ids; a tenth of the prompts is held out. ValueError for fewer than two prompts."""
    groups, report = encode_preferences(preferences, ChatFormat(tokenizer), block_size=block_size)
    if len(groups) < 2:
        raise ValueError(f"preferences: {report}, all of one prompt; at least two prompts are needed, to hold one out")
    n_held_out = max(1, len(groups) // 10)
    try:
        training, held_out = hold_out(groups, n_held_out, seed=seed, content=lambda group: tokenizer.decode_bytes(group.prompt))
    except ValueError as error:
        raise ValueError(f"preferences: {report}; of their prompts {error}") from None
    return Comparisons(training, held_out, report)


@dataclass(frozen=True)
class RewardTraining:
    """A reward model about to be trained: go through `records`, then call `finish`."""

    model: RewardModel
    records: Iterator[Record]
    finish: Callable[[], tuple[float, float]]  # normalises; held-out pair accuracy and its standard error


def train_reward(
    policy: Model, comparisons: Comparisons, *, config: TrainConfig, run: RunFolder, reward_config: RewardConfig | None = None
) -> RewardTraining:
    """A copy of `policy` with a head learns the comparisons.

    `finish` sets mean 0 and deviation 1 on the compared answers, which the policy wrote.
    """
    own = reward_config or RewardConfig()
    loss_fn = partial(preference_loss, center_coefficient=own.center_coefficient, margin_scale=own.margin_scale)
    model = RewardModel(copy.deepcopy(policy), rng=stream(config.seed, "reward head"))
    disable_dropout(model)
    rng = stream(config.seed, "order of compared prompts")
    source = PreferenceGroups(comparisons.groups, batch_size=config.batch_size, rng=rng)

    def finish() -> tuple[float, float]:
        accuracy = pair_accuracy(compare_pairs(model, comparisons.held_out))
        answers = [(group.prompt, answer) for group in comparisons.groups for answer in group.answers]
        normalise(model, pad_sequences([prompt for prompt, _ in answers], [answer for _, answer in answers]))
        return accuracy

    return RewardTraining(model, train(model, source, config=config, loss_fn=loss_fn, run=run), finish)


def finish_reward(model: RewardModel, comparisons: Comparisons, tokenizer: Tokenizer, *, run: RunFolder) -> None:
    """Write model/ and report.html, with what the model makes of the held-out pairs."""
    model.save_pretrained(run.path / "model", tokenizer)
    write_reward_report(run.path, measure_pairs(model, comparisons.held_out, chat=ChatFormat(tokenizer)))

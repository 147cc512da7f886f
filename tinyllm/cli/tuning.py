"""What the verbs that go on with a finished model share: `finetune`, `reward`, `dpo` and `rl`.

    read_settings(groups, args, inputs) -> settings            those of the run in --out where it is resumed
    load_for_chat(model)                -> GPT, tokenizer      with a chat's control tokens, added where the model has none
    tuning_run(verb, args, ...)         -> RunFolder           locked, settings and inputs noted

The inputs (model, data, reward model) are part of a run's settings: --resume takes them from there, and refuses others by name.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.cli.progress import Progress
from tinyllm.cli.resuming import Input, add_files, announce_longer, note_inputs, recall_inputs, resumable

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

TUNING = {  # against training from nothing: shorter, gentler, without decay towards 0 of what was learned before
    "max_steps": 1000,
    "batch_size": 16,
    "learning_rate": 5e-4,
    "min_learning_rate": 5e-5,
    "warmup_steps": 20,
    "weight_decay": 0.0,
    "eval_interval": 100,
    "checkpoint_interval": 100,
}
WORDS = {  # the comments in TrainConfig say where pre-training's defaults are from
    "max_steps": "optimizer steps in the whole run",
    "batch_size": "rows in one micro-batch",
    "learning_rate": "peak, per step",
    "min_learning_rate": "at the end",
    "warmup_steps": "steps before the peak is reached",
    "weight_decay": "pull of matrices towards 0, times the learning rate",
    "eval_interval": "steps between evaluations on what is held out, 0 = never",
    "eval_batches": "held-out batches per evaluation, the same ones each time",
    "epsilon": "Adam's guard against division by zero",
    "seed": "starts every random stream of the run",
}


PAIRS = Input("preferences", "PAIRS", "files")


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """The files of compared answers."""
    add_files(parser, "preferences", metavar="PAIRS", flag="--preferences", text="pairs of answers, .jsonl or .json")


@dataclass(frozen=True)
class ReadingConfig:
    """How files of records are to be understood."""

    role: tuple[str, ...] = ()  # who a speaker in the files is, where that is not known: bing=assistant

    def __post_init__(self) -> None:
        if self.role:
            self.roles  # noqa: B018  refuses what is no pair

    @property
    def roles(self) -> dict[str, str]:
        """speaker -> role. ValueError for what does not say that."""
        from tinyllm.data.conversations.messages import with_roles

        if wrong := [pair for pair in self.role if not all(pair.partition("="))]:
            raise ValueError(f"role is {wrong[0]!r}; expected a speaker of the files and who that is, such as bing=assistant")
        roles = {name.strip(): role.strip() for name, _, role in (pair.partition("=") for pair in self.role)}
        with_roles(roles)
        return roles


def reading_group() -> Group:
    """The settings of verbs that read conversations, pairs or prompts."""
    from tinyllm.cli.settings import Group

    return Group("reading", ReadingConfig)


def training_group(
    defaults: Mapping[str, Any], *, without: tuple[str, ...] = (), words: Mapping[str, str] | None = None
) -> Group:
    """The training settings with a verb's defaults. Verbs that do not evaluate on the way have no settings for it."""
    from tinyllm.cli.settings import Group
    from tinyllm.training import TrainConfig

    own: dict[str, Any] = {"defaults": {**TUNING, **defaults}, "words": {**WORDS, **(words or {})}}
    return Group("training", TrainConfig, without=frozenset(without), **own)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """MODEL, --out and --resume."""
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="folder of the model to begin with, or of its run")
    add("--out", required=True, metavar="FOLDER", help="folder of this run, such as runs/mine")
    add("--resume", action="store_true", help="go on with the run in --out: nothing else need be given; --max-steps extends it")


def load_for_chat(path: str, *, seed: int) -> tuple[Any, Any]:
    """The model and its tokenizer, able to chat: a base model gets the control tokens as new rows of its table.

    ValueError for a folder without a language model, and for weights that are not finite.
    """
    from tinyllm.models import GPT, extend_vocabulary, load_tokenizer_for
    from tinyllm.tokenizers import END_OF_TEXT
    from tinyllm.tokenizers.chat import CONTROL_TOKENS
    from tinyllm.training import find_model
    from tinyllm.training.streams import stream

    folder = find_model(path)
    model, tokenizer = GPT.from_pretrained(folder), load_tokenizer_for(folder)
    check_finite(model, folder)
    names = CONTROL_TOKENS if tokenizer.eos_id is not None else (END_OF_TEXT, *CONTROL_TOKENS)
    return extend_vocabulary(model, tokenizer, names, rng=stream(seed, "new tokens"))


def load_judge(path: str, *, tokenizer: Any) -> Any:
    """The reward model that `path` stands for. ValueError if it is none, has another tokenizer, or a weight is not finite."""
    from tinyllm.rlhf.reward_model import load_reward_model
    from tinyllm.training import find_model

    folder = find_model(path, name="reward-model")
    model = load_reward_model(folder, policy_tokenizer=tokenizer)
    check_finite(model, folder)
    return model


def check_finite(model: Any, folder: Path) -> None:
    """ValueError for a weight that is NaN or infinite: all that is made with it would be, after minutes of work."""
    import numpy as np

    for name, weight in model.named_parameters():
        if not np.isfinite(weight.data).all():
            advice = "its training has diverged: take an earlier checkpoint, or train it again"
            raise ValueError(f"model: the weight {name} in {folder} holds a value that is not finite; {advice}")


def read_settings(groups: list[Group], args: argparse.Namespace, inputs: Sequence[Input] = ()) -> dict[str, Any]:
    """The settings by group, those of the run in --out as defaults when it is resumed; its inputs are put into `args`."""
    from tinyllm.cli.settings import read_groups
    from tinyllm.recipes import pretrain as stages

    out = out_folder(args)
    stages.refuse_used_folder(out, resume=args.resume)
    recall_inputs(args, out, inputs)
    saved = stages.saved_settings(out) if args.resume else {}
    return read_groups([group.with_saved(saved.get(group.name, {}), where=str(out / "config.json")) for group in groups], args)


def refuse_too_large(model: Any, *, rows: int, name: str = "batch_size") -> None:
    """ValueError if a micro-batch of so many rows would not fit into memory. Of a LoRA model only the activations count."""
    from tinyllm.nn.lora import has_lora
    from tinyllm.training import available_memory, estimate_memory

    need, free = estimate_memory(model.config, batch_size=rows), available_memory()
    needed = need.base + need.weights + need.activations if has_lora(model) else need.total
    if free is not None and needed > free:
        found = f"{rows:,} rows of {model.config.block_size} tokens need about {needed / 1e9:.1f} GB"
        raise ValueError(f"{name}: {found}, and {free / 1e9:.1f} are free; lower it, or take a smaller model")


def out_folder(args: argparse.Namespace) -> Path:
    """--out, with ~ made whole."""
    return Path(os.path.expanduser(args.out))


def read_comparisons(
    paths: Sequence[str], tokenizer: Any, *, block_size: int, seed: int, roles: Mapping[str, str] | None = None
) -> Any:  # fmt: skip
    """The preferences in files as ids, some prompts held out; prints what was left out and why."""
    from tinyllm.data.conversations.preferences import read_preferences
    from tinyllm.recipes.assistant import prepare_comparisons

    preferences = []
    for path in paths:
        found, report = read_preferences(os.path.expanduser(path), roles=roles)
        preferences += found
        print(f"Pairs: {report}")
    comparisons = prepare_comparisons(preferences, tokenizer, block_size=block_size, seed=seed)
    print(f"As ids: {comparisons.report}", flush=True)
    return comparisons


@contextlib.contextmanager
def tuning_run(
    verb: str, args: argparse.Namespace, *, settings: Mapping[str, Any], inputs: Sequence[Input], tokenizer: Any, **more: Any
) -> Iterator[Any]:
    """The locked run folder with settings and inputs noted, kernels compiled. `more`: what is noted beside the inputs."""
    from tinyllm.cli.warmup import ensure_compiled
    from tinyllm.recipes import pretrain as stages

    out = out_folder(args)
    noted = {**settings, "inputs": note_inputs(args, out, inputs) | more}
    if args.resume:
        announce_longer(out, settings["training"])
    ensure_compiled()
    with resumable(verb, out), stages.start_run(out, settings=noted, tokenizer=tokenizer, resume=args.resume) as run:
        yield run


def show_records(records: Iterator[Any], *, label: str, total: int, shown: Mapping[str, str]) -> None:
    """A progress line of each record. `shown`: metric -> its short name."""
    from tinyllm.training import StepRecord

    kept: dict[str, str] = {}
    with Progress(label, total, unit="steps") as progress:
        for record in records:
            if not isinstance(record, StepRecord):
                progress.say(f"step {record.step:,}: held-out loss {record.val_loss:.3f}")
                continue
            kept |= {short: f"{record.metrics[name]:.3f}" for name, short in shown.items() if name in record.metrics}
            progress.show(record.step, loss=f"{record.loss:.3f}", **kept)

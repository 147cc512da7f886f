"""What recipes that go on with a finished model share: finetune, reward, dpo and improve.

load_for_chat(folder)      -> model, tokenizer   with a chat's control tokens, added where the model has none
refuse_too_large(model)                          before a step that would not fit into memory
tuning_run(start)          -> RunFolder          locked, settings and inputs noted, kernels compiled
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.data.conversations.messages import with_roles
from tinyllm.models import Model, RewardModel, extend_vocabulary, load_model, load_tokenizer_for
from tinyllm.nn import Module
from tinyllm.nn.lora import has_lora
from tinyllm.recipes.compile_ahead import ensure_compiled
from tinyllm.recipes.events import Show
from tinyllm.recipes.inputs import Input, Words, note, recall
from tinyllm.recipes.runs import refuse_used_folder, say_longer, start_run
from tinyllm.rlhf.reward_model import load_reward_model
from tinyllm.tokenizers import END_OF_TEXT, Tokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS
from tinyllm.training import RunFolder, TrainConfig, available_memory, estimate_memory, find_model
from tinyllm.training.streams import stream

# Against training from nothing: shorter, gentler, without decay towards 0 of what was learned before.
TUNING = TrainConfig(
    max_steps=1000, batch_size=16, learning_rate=5e-4, min_learning_rate=5e-5, warmup_steps=20, weight_decay=0.0,
    eval_interval=100, checkpoint_interval=100,
)  # fmt: skip


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
        if wrong := [pair for pair in self.role if not all(pair.partition("="))]:
            raise ValueError(f"role is {wrong[0]!r}; expected a speaker of the files and who that is, such as bing=assistant")
        roles = {name.strip(): role.strip() for name, _, role in (pair.partition("=") for pair in self.role)}
        with_roles(roles)
        return roles


@dataclass(frozen=True)
class Start:
    """How a run of tuning begins: where, made of what, and who is told of it."""

    out: Path
    inputs: tuple[Input, ...]
    words: Mapping[str, Words]  # the inputs by name
    resume: bool
    show: Show

    def files(self, name: str) -> list[str]:
        """An input that is a list of files."""
        words = self.words[name]
        return words if isinstance(words, list) else []

    def folder(self, name: str) -> str | None:
        """An input that is one folder, or one function."""
        words = self.words[name]
        return words if isinstance(words, str) else None


def begin(
    inputs: tuple[Input, ...], given: Mapping[str, str | Path | Sequence[str] | None], *, out: str | Path, resume: bool,
    show: Show,
) -> Start:  # fmt: skip
    """Check the folder, and fill in what an earlier start was made of. ValueError for a folder in use, and a missing input."""
    folder = Path(os.path.expanduser(out))
    refuse_used_folder(folder, resume=resume)
    words: dict[str, Words] = {
        name: str(value) if isinstance(value, str | Path) else None if value is None else list(value)
        for name, value in given.items()
    }
    return Start(folder, inputs, recall(inputs, words, folder, resume=resume), resume, show)


@contextlib.contextmanager
def tuning_run(
    start: Start, settings: Mapping[str, Any], *, tokenizer: Tokenizer, algorithm: str | None = None
) -> Iterator[RunFolder]:
    """The locked run folder with settings and inputs noted, kernels compiled. `algorithm`: noted beside the inputs."""
    noted = note(start.inputs, start.words, start.out, resume=start.resume)
    if algorithm:
        noted["algorithm"] = algorithm
    if start.resume:
        say_longer(start.out, settings["training"], start.show)
    ensure_compiled(start.show)
    noted_settings = {**settings, "inputs": noted}
    with start_run(start.out, settings=noted_settings, tokenizer=tokenizer, resume=start.resume) as run:
        yield run


def load_for_chat(path: str | Path, *, seed: int) -> tuple[Model, Tokenizer]:
    """The model and its tokenizer, able to chat: a base model gets the control tokens as new rows of its table.

    ValueError for a folder without a language model, and for weights that are not finite.
    """
    folder = find_model(path)
    model, tokenizer = load_model(folder), load_tokenizer_for(folder)
    check_finite(model, folder)
    names = CONTROL_TOKENS if tokenizer.eos_id is not None else (END_OF_TEXT, *CONTROL_TOKENS)
    return extend_vocabulary(model, tokenizer, names, rng=stream(seed, "new tokens"))


def load_judge(path: str | Path, *, tokenizer: Tokenizer) -> RewardModel:
    """The reward model in `path`. ValueError if there is none, if it has another tokenizer, or a weight is not finite."""
    folder = find_model(path, name="reward-model")
    model = load_reward_model(folder, policy_tokenizer=tokenizer)
    check_finite(model, folder)
    return model


def check_finite(model: Module, folder: Path) -> None:
    """ValueError for a weight that is NaN or infinite: all that is made with it would be, after minutes of work."""
    for name, weight in model.named_parameters():
        if not np.isfinite(weight.data).all():
            advice = "its training has diverged: take an earlier checkpoint, or train it again"
            raise ValueError(f"model: the weight {name} in {folder} holds a value that is not finite; {advice}")


def refuse_too_large(model: Model, *, rows: int, name: str = "batch_size") -> None:
    """ValueError if a micro-batch of so many rows would not fit into memory. Of a LoRA model only the activations count."""
    need, free = estimate_memory(model, batch_size=rows), available_memory()
    needed = need.base + need.weights + need.activations if has_lora(model) else need.total
    if free is not None and needed > free:
        found = f"{rows:,} rows of {model.config.block_size} tokens need about {needed / 1e9:.1f} GB"
        raise ValueError(f"{name}: {found}, and {free / 1e9:.1f} are free; lower it, or take a smaller model")

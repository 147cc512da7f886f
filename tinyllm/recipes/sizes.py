"""Shapes for `tinyllm train --size NAME`, and about how long each takes.

    time = steps · tokens a step · 3 · forward operations a token / speed

is an estimate by formula, with the 100 GFLOP/s that two cores with AVX2 reach in a training step; `tinyllm bench` measures yours.
A wide model wants smaller initial weights: init_std = 0.02 √(768/C), which for C = 768 is GPT-2's 0.02.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping

from tinyllm.models import ARCHITECTURES, GPTConfig, LlamaConfig, Model, ModelConfig, make_model
from tinyllm.training import TrainConfig

SPEED = 100e9  # operations a second
VOCAB_SIZE = 2048  # that of the default tokenizer


def _shape(*, n_layers: int, n_heads: int, d_model: int, block_size: int = 256) -> GPTConfig:
    return GPTConfig(
        vocab_size=VOCAB_SIZE, block_size=block_size, n_layers=n_layers, n_heads=n_heads, d_model=d_model, bias=False,
        init_std=round(0.02 * math.sqrt(768 / d_model), 3),
    )  # fmt: skip


def _as_llama(shape: GPTConfig, *, n_kv_heads: int) -> LlamaConfig:
    """A Llama of the same layers, heads and width, with fewer key/value heads and one table for reading and scoring."""
    same = {name: getattr(shape, name) for name in ("vocab_size", "block_size", "n_layers", "n_heads", "d_model", "init_std")}
    return dataclasses.replace(LlamaConfig(n_kv_heads=n_kv_heads, tied=True), **same)


GPT_SHAPES = {
    "tiny": _shape(n_layers=2, n_heads=2, d_model=64, block_size=128),
    "small": _shape(n_layers=4, n_heads=4, d_model=128),  # nanoGPT's CPU recipe with a longer context
    "medium": _shape(n_layers=6, n_heads=8, d_model=256),
    "large": _shape(n_layers=6, n_heads=6, d_model=384),  # nanoGPT's recipe for Shakespeare
}
GROUPS = {"tiny": 1, "small": 2, "medium": 4, "large": 2}  # key/value heads
SHAPES: Mapping[str, Mapping[str, ModelConfig]] = {
    "gpt2": GPT_SHAPES,
    "llama": {name: _as_llama(shape, n_kv_heads=GROUPS[name]) for name, shape in GPT_SHAPES.items()},
}
DEFAULT = "small"


def as_flag(name: str) -> str:
    """A setting as one types it."""
    return "--" + name.replace("_", "-")


def refuse_others(architecture: str, given: Iterable[str]) -> None:
    """ValueError for a setting, "model.window", that another architecture has and this one has not."""
    known = {field.name for field in dataclasses.fields(ARCHITECTURES[architecture].Config)}
    for name in (word.removeprefix("model.") for word in given if word.startswith("model.")):
        if name not in known:
            other = next(kind for kind in ARCHITECTURES if kind != architecture)
            raise ValueError(f"{as_flag(name)} is no setting of {architecture}; leave it out, or choose --model {other}")


def minutes(model: Model, *, n_tokens: int) -> float:
    """About how long it takes to learn from `n_tokens`, on two cores."""
    return n_tokens * 3 * model.flops_per_token() / SPEED / 60


def table(training: TrainConfig) -> str:
    """A line for each size, for --help; the minutes are those of a run with the settings `training`."""
    lines = [f"sizes, with {VOCAB_SIZE:,} tokens (estimated minutes of {training.max_steps:,} steps on two cores):"]
    for name, config in GPT_SHAPES.items():
        model = make_model(config, rng=None)
        about = minutes(model, n_tokens=training.n_tokens(config.block_size))
        facts = f"{config.n_layers} x {config.d_model}, {config.n_heads} heads, context {config.block_size}"
        mark = " (default)" if name == DEFAULT else ""
        lines.append(f"  {name:<7} {facts:<30} {model.num_parameters() / 1e6:>5.1f} M weights {about:>4.0f} min{mark}")
    return "\n".join(lines)

"""Heads: a language model's stream read by something else than the token table: one number, or a class.

    reward(text) = gain · (w · h_last) + bias        value(t) = w · h_t + b        label scores = W h_last

h_last is the stream (after the last norm) at the last *real* token: what follows is padding, and what stands before has not
read the whole text. The reward's initial weights are N(0, 1/(C+1)), so that rewards start near size 1 (Ziegler et al. 2019;
Stiennon et al. 2020); a value starts at 0, for it is to correct, not to disturb. On disk: transformers'
...ForSequenceClassification, "score.weight" without a bias; their score is w · h_last, ours times gain plus bias.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.models import pretrained
from tinyllm.models.contract import LanguageModel
from tinyllm.models.folder_layout import HEAD
from tinyllm.models.registry import Model, model_kind
from tinyllm.nn import Linear, Module, zeros
from tinyllm.storage import FormatError
from tinyllm.tokenizers import Tokenizer

_GAIN, _BIAS = "reward_gain", "reward_bias"


class ScalarHead(Module):
    """(..., C) -> (...): one number a position. weight (1, C); bias (1,), 0 at first, or None."""

    def __init__(self, d_model: int, *, zero: bool = False, bias: bool = True, rng: np.random.Generator | None):
        std = 0.0 if zero else 1 / math.sqrt(d_model + 1)
        linear = Linear(d_model, 1, bias=False, std=std, rng=None if zero else rng)
        self.weight = linear.weight
        self.bias = zeros(1) if bias else None

    def __call__(self, hidden: Tensor) -> Tensor:
        """hidden (..., C) -> (...)."""
        return ops.reshape(ops.linear(hidden, self.weight, self.bias), shape=hidden.shape[:-1])


def last_real(attention_mask: np.ndarray) -> np.ndarray:
    """Column of the last True of each row of attention_mask (B, T), wherever padding is; ValueError for a row of padding only."""
    if not attention_mask.any(axis=1).all():
        raise ValueError(
            f"attention_mask: row {int(np.argmin(attention_mask.any(axis=1)))} has no real token, so there is nothing to score"
        )
    return attention_mask.shape[1] - 1 - np.argmax(attention_mask[:, ::-1], axis=1)


def _last_hidden(trunk: LanguageModel, tokens: np.ndarray, attention_mask: np.ndarray | None) -> Tensor:
    """The stream at the last real token, (B, C)."""
    rows = np.arange(len(tokens))
    columns = np.full(len(tokens), tokens.shape[1] - 1) if attention_mask is None else last_real(attention_mask)
    return trunk.hidden(tokens, attention_mask=attention_mask, read_from=columns)[rows, columns]


class RewardModel(Module):
    """A language model that gives a text one number: how good it is. The trunk is trained with it, so give it a copy of its own.

    The head has no bias: a constant added to every reward changes no comparison. `gain` and `bias` (1,) are not trained,
    they are set afterwards so that the reference policy's samples have mean 0 and deviation 1 (rlhf/reward_model.py).
    """

    def __init__(self, trunk: Model, *, rng: np.random.Generator | None):
        self.trunk = trunk
        self.config = trunk.config
        self.head = ScalarHead(trunk.config.d_model, bias=False, rng=rng)
        self.gain = Tensor(np.ones(1, np.float32))  # no gradient, but part of the state: a checkpoint keeps them
        self.bias = Tensor(np.zeros(1, np.float32))

    def __call__(self, tokens: np.ndarray, attention_mask: np.ndarray | None = None) -> Tensor:
        """tokens (B, T), attention_mask (B, T) bool, padding on either side or none -> rewards (B,)."""
        return self.head(_last_hidden(self.trunk, tokens, attention_mask)) * self.gain + self.bias

    def save_pretrained(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> None:
        """Write the folder as transformers' sequence classifier with one label; gain and bias stand in config.json."""
        extra = {_GAIN: float(self.gain.data[0]), _BIAS: float(self.bias.data[0])}
        _save(folder, self.trunk, self.head.weight.data, extra=extra, tokenizer=tokenizer)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> RewardModel:
        """The reward model in `folder`, in eval mode; FormatError names file and field where something does not fit."""
        settings, trunk, score = _load(folder)
        if len(score) != 1:
            raise FormatError(Path(folder) / "config.json", field="num_labels", expected="1, a reward", found=len(score))
        model = cls(trunk, rng=None)
        model.head.weight.data = score
        for name, array in ((_GAIN, model.gain), (_BIAS, model.bias)):
            value = _number(settings, name, default=array.data[0], file=Path(folder) / "config.json")
            array.assign(np.array([value]))
        model.eval()
        return model


class ValueModel(Module):
    """A language model that says at every token how much reward is still to come. The head starts at 0: so does every value."""

    def __init__(self, trunk: Model):
        self.trunk = trunk
        self.config = trunk.config
        self.head = ScalarHead(trunk.config.d_model, zero=True, rng=None)

    def __call__(self, tokens: np.ndarray, attention_mask: np.ndarray | None = None, *, read_from: int | None = None) -> Tensor:
        """tokens, attention_mask (B, T) bool -> values (B, T); those at padding, or left of column `read_from`, mean nothing."""
        return self.head(self.trunk.hidden(tokens, attention_mask=attention_mask, read_from=read_from))


class SequenceClassifier(Module):
    """A language model that sorts texts into `n_labels` classes. Trained with cross-entropy over its scores."""

    def __init__(self, trunk: Model, n_labels: int, *, rng: np.random.Generator | None):
        if n_labels < 2:
            raise ValueError(f"n_labels must be at least 2 (for one number there is RewardModel), got {n_labels}")
        self.trunk = trunk
        self.config = trunk.config
        self.head = Linear(trunk.config.d_model, n_labels, bias=False, std=0.02, rng=rng)

    def __call__(self, tokens: np.ndarray, attention_mask: np.ndarray | None = None) -> Tensor:
        """tokens (B, T), attention_mask (B, T) bool -> a score for each label, (B, n_labels), read at the last real token."""
        return self.head(_last_hidden(self.trunk, tokens, attention_mask))

    def save_pretrained(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> None:
        """Write the folder as transformers' sequence classifier."""
        _save(folder, self.trunk, self.head.weight.data, extra={}, tokenizer=tokenizer)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> SequenceClassifier:
        """The classifier in `folder`, in eval mode."""
        _, trunk, score = _load(folder)
        if len(score) < 2:
            raise FormatError(Path(folder) / "config.json", field="num_labels", expected="at least 2", found=len(score))
        model = cls(trunk, len(score), rng=None)
        model.head.weight.data = score
        model.eval()
        return model


def _save(folder: str | Path, trunk: Model, score: np.ndarray, *, extra: Mapping[str, Any], tokenizer: Tokenizer | None) -> None:
    """config.json and weights in their layout. `score` (n_labels, C)."""
    config = trunk.layout.to_config(trunk.config)
    labels = {str(i): f"LABEL_{i}" for i in range(len(score))}  # how their configs spell the number of labels
    head = {"architectures": [trunk.layout.head_architecture(trunk.config)], "num_labels": len(score), "id2label": labels}
    tensors = {**trunk.layout.to_tensors(trunk.state_dict()), HEAD: score}
    pretrained.save(folder, {**config, **head, **extra}, tensors, tokenizer=tokenizer)


def _load(folder: str | Path) -> tuple[dict[str, Any], Model, np.ndarray]:
    """config.json, the trunk, and score (n_labels, C)."""
    kind = model_kind(folder)
    settings, tensors, file = pretrained.load(folder, model_types=kind.layout.MODEL_TYPES)
    score = tensors.pop(HEAD, None)
    if score is None:
        raise FormatError(file, field=HEAD, expected="a head's weights (is this a language model?)", found="no such array")
    trunk = kind.from_arrays(settings, tensors, folder=folder)
    width = trunk.config.d_model
    if score.ndim != 2 or score.shape[1] != width or not len(score) or score.dtype != np.float32:
        expected = f"floating point (labels, {width})"
        raise FormatError(file, field=HEAD, expected=expected, found=f"{score.dtype} {score.shape}")
    return settings, trunk, score


def _number(settings: Mapping[str, Any], name: str, *, default: float, file: Path) -> float:
    """A finite number of config.json."""
    value = settings.get(name, float(default))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FormatError(file, field=name, expected="a finite number", found=repr(value))
    return value

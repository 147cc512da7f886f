"""What a family of published models calls things: the names in config.json and in the weight files, beside ours.

Each architecture has a page (`gpt.py`) and a layout (`gpt_layout.py`), a module with these names. Whoever saves, loads, adapts or
gives a head to a model asks the model's `layout`, and knows no family.
"""

import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tinyllm.storage import FormatError

Tensors = Mapping[str, np.ndarray]
File = str | os.PathLike[str]
HEAD = "score.weight"  # what transformers' ...ForSequenceClassification has beside the trunk


class FolderLayout(Protocol):
    """A layout. `file` is for errors; they are FormatErrors that name the field."""

    @property
    def MODEL_TYPES(self) -> tuple[str, ...]:  # noqa: N802  a constant of the module
        """Of config.json."""
        ...

    @property
    def LORA_NAMES(self) -> Mapping[str, str]:  # noqa: N802
        """Our names of the layers that can be adapted -> PEFT's target_modules."""
        ...

    @property
    def TRANSPOSED(self) -> bool:  # noqa: N802
        """Whether their weights are stored (in, out)."""
        ...

    def to_config(self, config: Any) -> dict[str, Any]:
        """A model's settings as config.json."""
        ...

    def from_config(self, settings: Mapping[str, Any], *, file: File) -> dict[str, Any]:
        """The fields of the settings dataclass from config.json."""
        ...

    def to_tensors(self, state: Tensors) -> dict[str, np.ndarray]:
        """A state_dict under their names and in their orientation."""
        ...

    def arrange(self, tensors: Tensors, config: Any, *, settings: Mapping[str, Any], file: File) -> dict[str, np.ndarray]:
        """Their arrays under full names, each once, of the sizes that `config`, read from config.json's settings, declares."""
        ...

    def from_tensors(self, tensors: Tensors, names: list[str], *, file: File) -> dict[str, np.ndarray]:
        """Arrays for our `names` from those of `arrange`."""
        ...

    def their_name(self, name: str) -> str:
        """A weight's path (or a layer's, with a dot at the end) as they call it."""
        ...

    def head_architecture(self, config: Any) -> str:
        """Their class of a trunk with a head that scores labels."""
        ...


def refuse_head(tensors: Tensors, *, file: File) -> None:
    """FormatError for the weights of a reward model or a classifier, which read a text but cannot write one."""
    if HEAD in tensors:
        expected = "a language model (the one that it was trained from, say)"
        raise FormatError(file, field=HEAD, expected=expected, found="the head of a reward model or a classifier")


def check_shapes(tensors: Tensors, expected: Mapping[str, tuple[int, ...]], *, file: File) -> None:
    """FormatError unless the arrays hold what config.json declares: asked before arrays of the declared sizes are made."""
    for name, shape in expected.items():
        array = tensors.get(name)
        if array is None or array.shape != shape:
            found = "no such array" if array is None else f"shape {array.shape}"
            raise FormatError(file, field=name, expected=f"shape {shape}, as config.json says", found=found)

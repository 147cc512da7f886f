"""The architectures that are here, and the way from a folder or from settings to a model.

load_model(folder)            config.json says of which kind it is, and each kind has a class of its own
make_model(config, rng=rng)   a model with fresh weights; the class of its settings says of which kind it is
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.models.decoder import Decoder
from tinyllm.models.folder_layout import HEAD
from tinyllm.models.gpt import GPT, GPTConfig
from tinyllm.models.llama import Llama, LlamaConfig
from tinyllm.models.pretrained import array_names, read_config, refuse_missing_config
from tinyllm.storage import FormatError

ModelConfig = GPTConfig | LlamaConfig
Model = Decoder  # any of them
ARCHITECTURES: Mapping[str, type[Model]] = {"gpt2": GPT, "llama": Llama}  # the name in commands -> class
MODELS: Mapping[str, type[Model]] = {name: kind for kind in ARCHITECTURES.values() for name in kind.layout.MODEL_TYPES}


def make_model(config: ModelConfig, *, rng: np.random.Generator | None) -> Model:
    """A model of that size and shape; `rng` draws its weights, None leaves them 0."""
    kind: Any = ARCHITECTURES[architecture_of(config)]
    return kind(config, rng=rng)


def architecture_of(config: ModelConfig) -> str:
    """The name of such models in commands."""
    return next(name for name, kind in ARCHITECTURES.items() if type(config) is kind.Config)


def model_kind(folder: str | Path) -> type[Model]:
    """The class of the model in a folder. FormatError for a model_type that is not known here, with those that are."""
    refuse_missing_config(folder)
    found = read_config(folder).get("model_type")
    if not isinstance(found, str) or found not in MODELS:
        known = f"one of {', '.join(MODELS)}"
        raise FormatError(Path(folder) / "config.json", field="model_type", expected=known, found=repr(found))
    return MODELS[found]


def has_head(folder: str | Path) -> bool:
    """Whether the model in a folder reads and does not write: a reward model or a classifier."""
    return HEAD in array_names(folder)


def load_model(folder: str | Path) -> Model:
    """The language model in a folder, in eval mode. FormatError names the file and the field where something does not fit."""
    return model_kind(folder).from_pretrained(folder)

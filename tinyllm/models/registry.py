"""From a folder to its model: config.json says of which kind it is, and each kind has a class of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tinyllm.models.contract import LanguageModel
from tinyllm.models.gpt import GPT
from tinyllm.models.pretrained import read_config, refuse_missing_config
from tinyllm.storage import FormatError


class Kind(Protocol):
    """A class of language models that reads its own folders."""

    def from_pretrained(self, folder: str | Path) -> LanguageModel:
        """The model in `folder`, in eval mode."""
        ...


MODELS: Mapping[str, Kind] = {"gpt2": GPT}  # model_type in config.json -> class


def load_model(folder: str | Path) -> LanguageModel:
    """The language model in a folder, in eval mode. FormatError for a model_type that is not known here, with those that are."""
    refuse_missing_config(folder)
    found = read_config(folder).get("model_type")
    if not isinstance(found, str) or found not in MODELS:
        known = f"one of {', '.join(MODELS)}"
        raise FormatError(Path(folder) / "config.json", field="model_type", expected=known, found=repr(found))
    return MODELS[found].from_pretrained(folder)

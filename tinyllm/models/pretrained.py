"""A model as a folder that others can read: config.json, model.safetensors, tokenizer.json (Hugging Face's layout).

The weights carry the sha256 of the tokenizer they were trained with. A model does not read text but ids: with another
tokenizer's ids it would answer fluent nonsense, so a folder whose tokenizer was exchanged is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.nn import Module
from tinyllm.storage import FormatError, safetensors, strict_json, write_file
from tinyllm.tokenizers import load_tokenizer

Folder = str | os.PathLike[str]
_FINGERPRINT = "tokenizer_sha256"


def save(folder: Folder, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, tokenizer: Any = None) -> None:
    """Write the three files, each whole or not at all; config.json comes last, so a folder without it is unfinished."""
    folder = Path(folder)
    if rounded := [name for name, array in tensors.items() if array.dtype.kind != "f"]:
        raise ValueError(f"{rounded[0]} is {tensors[rounded[0]].dtype}: save the float model, and quantize it when it is loaded")
    if any(".lora_" in name for name in tensors):
        raise ValueError(
            "model has LoRA adapters, for which this layout has no place; merge_lora(model) first, or keep the adapters alone "
            "with models.save_adapters"
        )
    if tokenizer is not None:
        _check_size(tokenizer.vocab_size, config["vocab_size"], folder)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is None and (folder / "tokenizer.json").exists():
        raise ValueError(
            f"{folder} holds a tokenizer.json that these weights may not belong to; pass tokenizer=, or an empty folder"
        )
    metadata = {"format": "pt"}  # what transformers expects of a file it did not write
    if tokenizer is not None:
        metadata[_FINGERPRINT] = tokenizer.fingerprint()
        tokenizer.save(folder)
    safetensors.save(folder / "model.safetensors", tensors, metadata=metadata)
    write_file(folder / "config.json", json.dumps(dict(config), indent=2).encode() + b"\n")


def load(folder: Folder, *, model_type: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """config.json as a dict and the weights as mapped arrays (copy-on-write: training them does not change the file).

    FileNotFoundError says which file is missing; FormatError what is wrong in one.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is not a model folder: it has no {name}")
    file = folder / "config.json"
    config = strict_json.parse(file.read_bytes(), file=file, schema=strict_json.MapOf(object))
    if config.get("model_type") != model_type:
        raise FormatError(file, field="model_type", expected=repr(model_type), found=repr(config.get("model_type")))
    return config, safetensors.load(folder / "model.safetensors")


def adopt(model: Module, state: Mapping[str, np.ndarray], *, file: Folder) -> None:
    """Use the arrays in `state` as the model's weights, without copying. FormatError unless float32 and fitting."""
    for name, array in state.items():
        if array.dtype != np.float32:
            raise FormatError(file, field=name, expected="32, 16 or bfloat16 floating point", found=str(array.dtype))
    try:
        model.load_state_dict(state, assign=True)
    except ValueError as error:
        raise FormatError(file, field="tensors", expected="the shapes that config.json gives", found=str(error)) from None


def load_tokenizer_for(folder: Folder) -> Any:
    """The tokenizer in a model folder, after checking that the weights beside it were trained with it."""
    folder = Path(folder)
    tokenizer = load_tokenizer(folder)
    expected = (safetensors.read_header(folder / "model.safetensors").metadata).get(_FINGERPRINT)
    if expected is not None and tokenizer.fingerprint() != expected:
        raise FormatError(
            folder / "tokenizer.json",
            field="sha256",
            expected=f"{expected[:12]}..., the tokenizer these weights were trained with",
            found=f"{tokenizer.fingerprint()[:12]}... (put the model's own tokenizer.json back)",
        )
    file = folder / "config.json"
    config = strict_json.parse(file.read_bytes(), file=file, schema=strict_json.MapOf(object))
    _check_size(tokenizer.vocab_size, config.get("vocab_size", 0), folder)
    return tokenizer


def _check_size(tokenizer_size: int, model_size: int, folder: Path) -> None:
    if tokenizer_size > model_size:
        raise FormatError(
            folder / "tokenizer.json",
            field="vocabulary",
            expected=f"at most {model_size} tokens, the model's vocab_size",
            found=f"{tokenizer_size} tokens",
        )

"""LoRA adapters alone, in PEFT's files: a fine-tuned model as a few hundred kilobytes beside the model it was made from.

    adapter_config.json        rank, alpha, which layers
    adapter_model.safetensors  base_model.model.transformer.h.0.attn.c_attn.lora_A.weight (r, in), lora_B.weight (out, r), ...

Names are those of Hugging Face's GPT-2 (`gpt_layout.py`), so PEFT can put the adapters on a GPT2LMHeadModel and the other way
round. The layer itself: `nn/lora.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.models.gpt import GPT
from tinyllm.models.gpt_layout import their_name
from tinyllm.models.pretrained import Folder
from tinyllm.nn import add_lora, lora_layers
from tinyllm.storage import FormatError, safetensors, strict_json, write_file

_PREFIX = "base_model.model."
_LAYERS = {"qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}  # ours -> PEFT's target_modules
_ONLY = {  # settings of PEFT that change what is computed, and the one value that LoRALinear computes
    "peft_type": "LORA",
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "lora_bias": False,
    "modules_to_save": None,
    "layers_to_transform": None,
}
_EMPTY = ("rank_pattern", "alpha_pattern")


def save_adapters(model: GPT, folder: Folder) -> None:
    """Write the adapters of `model` (made by add_lora) to `folder`. ValueError if it has none."""
    layers = lora_layers(model)
    if not layers:
        raise ValueError("model has no LoRA adapters to save; add_lora(model, ...) makes them, save_pretrained saves the model")
    first = next(iter(layers.values()))
    tensors = {name: array for path, layer in layers.items() for name, array in zip(
        _names(path), (layer.lora_a.data, layer.lora_b.data), strict=True)}  # fmt: skip
    settings = {"task_type": "CAUSAL_LM", "base_model_name_or_path": None, "inference_mode": True, "fan_in_fan_out": True}
    shape = {"r": first.rank, "lora_alpha": first.alpha, "lora_dropout": 0.0}
    targets = sorted({_LAYERS[path.rpartition(".")[2]] for path in layers})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save(folder / "adapter_model.safetensors", tensors, metadata={"format": "pt"})
    content = {**_ONLY, **dict.fromkeys(_EMPTY, {}), **settings, **shape, "target_modules": targets}
    write_file(folder / "adapter_config.json", json.dumps(content, indent=2).encode() + b"\n")


def load_adapters(model: GPT, folder: Folder) -> GPT:
    """Put the adapters in `folder` on `model`, in place, and return it. FormatError names the file and what does not fit."""
    file = Path(folder) / "adapter_config.json"
    settings = strict_json.parse(file.read_bytes(), file=file, schema=strict_json.MapOf(object))
    targets = _check_settings(settings, file)
    file = Path(folder) / "adapter_model.safetensors"
    tensors = safetensors.load(file)
    try:
        add_lora(model, rank=settings["r"], alpha=settings["lora_alpha"], targets=targets, rng=np.random.default_rng(0))
    except ValueError as error:
        raise FormatError(file, field="adapter_config.json", expected="adapters that fit this model", found=str(error)) from None
    expected = {name: weight for path, layer in lora_layers(model).items() for name, weight in zip(
        _names(path), (layer.lora_a, layer.lora_b), strict=True)}  # fmt: skip
    if wrong := sorted(expected.keys() ^ tensors.keys()):
        raise FormatError(file, field=wrong[0], expected="an array for each adapted layer", found="one missing or too many")
    for name, weight in expected.items():
        if tensors[name].shape != weight.shape:
            raise FormatError(file, field=name, expected=f"shape {weight.shape}", found=f"shape {tensors[name].shape}")
        weight.assign(tensors[name])
    return model


def _names(path: str) -> tuple[str, str]:
    """The names of A and B of the layer at `path`."""
    layer = _PREFIX + their_name(path + ".").rstrip(".")
    return f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"


def _check_settings(settings: dict[str, Any], file: Path) -> list[str]:
    """Our names of the adapted layers; FormatError for a kind of adapter that LoRALinear is not."""
    for key, only in _ONLY.items():
        if settings.get(key, only) != only:
            raise FormatError(file, field=key, expected=f"{only!r} (the only kind LoRALinear knows)", found=repr(settings[key]))
    for key in _EMPTY:
        if settings.get(key):
            raise FormatError(file, field=key, expected="{}, one rank and alpha for all layers", found=repr(settings[key]))
    for key in ("r", "lora_alpha"):
        if isinstance(settings.get(key), bool) or not isinstance(settings.get(key), int | float):
            raise FormatError(file, field=key, expected="a number", found=repr(settings.get(key)))
    named = settings.get("target_modules")
    found = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    ours = [name for name, theirs in _LAYERS.items() if any(theirs == one or theirs.endswith(f".{one}") for one in found)]
    if not ours:
        raise FormatError(file, field="target_modules", expected=f"some of {', '.join(_LAYERS.values())}", found=repr(named))
    return ours

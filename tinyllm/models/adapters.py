"""LoRA adapters alone, in PEFT's files: a fine-tuned model as a few hundred kilobytes beside the model it was made from.

    adapter_config.json        rank, alpha, which layers
    adapter_model.safetensors  base_model.model.transformer.h.0.attn.c_attn.lora_A.weight (r, in), lora_B.weight (out, r), ...

Names are those of the model's family on Hugging Face (its layout), so PEFT can put the adapters on a model of transformers, and
the other way round. The layer itself: `nn/lora.py`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.models.folder_layout import FolderLayout
from tinyllm.models.pretrained import Folder
from tinyllm.models.registry import Model
from tinyllm.nn import Linear, add_lora, lora_layers
from tinyllm.storage import FormatError, safetensors, strict_json, write_file

_PREFIX = "base_model.model."
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
_WITHOUT_EFFECT = {  # what they say is done, is about training, or is where the model is from
    "r", "lora_alpha", "target_modules", "task_type", "inference_mode", "fan_in_fan_out", "base_model_name_or_path",
    "revision", "auto_mapping", "peft_version", "lora_dropout", "init_lora_weights", "megatron_core", "qalora_group_size",
    "layers_pattern",
}  # fmt: skip


def save_adapters(model: Model, folder: Folder) -> None:
    """Write the adapters of `model` (made by add_lora) to `folder`. ValueError if it has none."""
    layers = lora_layers(model)
    if not layers:
        raise ValueError("model has no LoRA adapters to save; add_lora(model, ...) makes them, save_pretrained saves the model")
    first = next(iter(layers.values()))
    tensors = {name: array for path, layer in layers.items() for name, array in zip(
        _names(path, model.layout), (layer.lora_a.data, layer.lora_b.data), strict=True)}  # fmt: skip
    settings = {"task_type": "CAUSAL_LM", "base_model_name_or_path": None, "inference_mode": True}
    settings["fan_in_fan_out"] = model.layout.TRANSPOSED
    shape = {"r": first.rank, "lora_alpha": first.alpha, "lora_dropout": 0.0}
    targets = sorted({model.layout.LORA_NAMES[path.rpartition(".")[2]] for path in layers})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save(folder / "adapter_model.safetensors", tensors, metadata={"format": "pt"})
    content = {**_ONLY, **dict.fromkeys(_EMPTY, {}), **settings, **shape, "target_modules": targets}
    write_file(folder / "adapter_config.json", json.dumps(content, indent=2).encode() + b"\n")


def load_adapters(model: Model, folder: Folder) -> Model:
    """Put the adapters in `folder` on `model`, in place, and return it.

    FormatError names the file and what does not fit; the model is then as it was, for all is checked before it is touched.
    """
    file = Path(folder) / "adapter_config.json"
    settings = strict_json.read(file, schema=strict_json.MapOf(object))
    targets = _check_settings(settings, model.layout.LORA_NAMES, file)
    file = Path(folder) / "adapter_model.safetensors"
    tensors = safetensors.load(file)
    _check_tensors(tensors, _shapes(model, targets, settings["r"]), file)
    try:
        add_lora(model, rank=settings["r"], alpha=settings["lora_alpha"], targets=targets, rng=np.random.default_rng(0))
    except ValueError as error:
        raise FormatError(file, field="adapter_config.json", expected="adapters that fit this model", found=str(error)) from None
    for path, layer in lora_layers(model).items():
        for name, weight in zip(_names(path, model.layout), (layer.lora_a, layer.lora_b), strict=True):
            weight.assign(tensors[name])
    return model


def _shapes(model: Model, targets: list[str], rank: int) -> dict[str, tuple[int, int]]:
    """The name and shape of each array that adapters of that rank on these layers of `model` have."""
    shapes: dict[str, tuple[int, int]] = {}
    for path, module in model.named_modules():
        if type(module) is Linear and path.rpartition(".")[2] in targets:
            n_out, n_in = module.weight.shape
            shapes |= dict(zip(_names(path, model.layout), ((rank, n_in), (n_out, rank)), strict=True))
    return shapes


def _check_tensors(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, int]], file: Path) -> None:
    """FormatError unless the arrays are those, of these shapes, finite and floating point."""
    if wrong := sorted(shapes.keys() ^ tensors.keys()):
        found = "none" if wrong[0] in shapes else "one for a layer that is not adapted"
        raise FormatError(file, field=wrong[0], expected="an array for each adapted layer, and no other", found=found)
    for name, shape in shapes.items():
        array = tensors[name]
        if array.shape != shape:
            raise FormatError(file, field=name, expected=f"shape {shape}", found=f"shape {array.shape}")
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            found = str(array.dtype) if array.dtype.kind != "f" else "a value that is not finite"
            raise FormatError(file, field=name, expected="finite floating-point numbers", found=found)


def _names(path: str, layout: FolderLayout) -> tuple[str, str]:
    """The names of A and B of the layer at `path`."""
    layer = _PREFIX + layout.their_name(path + ".").rstrip(".")
    return f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"


def _check_settings(settings: dict[str, Any], known: Mapping[str, str], file: Path) -> list[str]:
    """Our names of the adapted layers; FormatError for a kind of adapter that LoRALinear is not."""
    for key, only in _ONLY.items():
        if settings.get(key, only) != only:
            raise FormatError(file, field=key, expected=f"{only!r} (the only kind LoRALinear knows)", found=repr(settings[key]))
    for key in _EMPTY:
        if settings.get(key):
            raise FormatError(file, field=key, expected="{}, one rank and alpha for all layers", found=repr(settings[key]))
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise FormatError(file, field="r", expected="a whole number of at least 1", found=repr(rank))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not alpha > 0:
        raise FormatError(file, field="lora_alpha", expected="a number above 0", found=repr(alpha))
    for key, value in settings.items():
        if value and key not in _ONLY and key not in _EMPTY and key not in _WITHOUT_EFFECT:
            raise FormatError(file, field=key, expected="no such setting, or one that is off", found=repr(value))
    named = settings.get("target_modules")
    found = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    ours = [name for name, theirs in known.items() if any(theirs == one or theirs.endswith(f".{one}") for one in found)]
    if not ours:
        raise FormatError(file, field="target_modules", expected=f"some of {', '.join(known.values())}", found=repr(named))
    return ours

"""GPT-2 under Hugging Face's names: what config.json and model.safetensors call the things that `gpt.py` calls otherwise.

    ours                                  theirs
    tokens.weight (V, C)                  transformer.wte.weight (V, C)
    positions.weight                      transformer.wpe.weight
    blocks.0.norm1.weight                 transformer.h.0.ln_1.weight
    blocks.0.attention.qkv.weight (3C, C) transformer.h.0.attn.c_attn.weight (C, 3C)      stored transposed ("Conv1D")
    ... .attention.out / .feedforward.up / .down          ... .attn.c_proj / .mlp.c_fc / .c_proj, transposed too

Their GPT-2 always has biases: a model without is written with zeros in their place and `"bias": false` beside.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinyllm.storage import FormatError

_RENAMED = {
    "tokens.": "wte.",
    "positions.": "wpe.",
    "blocks.": "h.",
    "norm1.": "ln_1.",
    "norm2.": "ln_2.",
    "norm.": "ln_f.",
    "attention.qkv.": "attn.c_attn.",
    "attention.out.": "attn.c_proj.",
    "feedforward.up.": "mlp.c_fc.",
    "feedforward.down.": "mlp.c_proj.",
}
_KEYS = {
    "vocab_size": "vocab_size",
    "block_size": "n_positions",
    "n_layers": "n_layer",
    "n_heads": "n_head",
    "d_model": "n_embd",
}
_ONLY = {  # settings of theirs of which gpt.py knows one value
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


HEAD = "score.weight"  # what transformers' GPT2ForSequenceClassification has beside the trunk


def _is_transposed(name: str) -> bool:
    return name.endswith(".weight") and (".attention." in name or ".feedforward." in name)


def their_name(name: str) -> str:
    """The path of a weight (or of a layer, with a dot at the end) as transformers' GPT2LMHeadModel calls it."""
    for ours, theirs in _RENAMED.items():
        name = name.replace(ours, theirs)
    return "transformer." + name


def to_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """GPTConfig's fields as a config.json that transformers' GPT2LMHeadModel reads."""
    dropout = {name: config["dropout"] for name in ("embd_pdrop", "resid_pdrop")}
    sizes = {theirs: config[ours] for ours, theirs in _KEYS.items()}
    head = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    # GPT-2's own end-of-text id lies outside a smaller vocabulary; the tokenizer says which ids are special.
    no_ids = {"bos_token_id": None, "eos_token_id": None}
    own = {"initializer_range": config["init_std"], "bias": config["bias"]}
    return {**head, **sizes, **dropout, "attn_pdrop": 0.0, **_ONLY, **no_ids, **own}


def from_config(settings: Mapping[str, Any], *, file: str | os.PathLike[str]) -> dict[str, Any]:
    """GPTConfig's fields from a config.json, ours or theirs. FormatError for a missing key or a variant gpt.py is not."""
    for key in _KEYS.values():
        value = settings.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise FormatError(file, field=key, expected="a whole number of at least 1", found=repr(value))
    for key, only in _ONLY.items():
        if settings.get(key, only) != only:
            raise FormatError(file, field=key, expected=f"{only!r} (the only kind GPT knows)", found=repr(settings[key]))
    if settings["n_embd"] % settings["n_head"]:
        raise FormatError(file, field="n_head", expected=f"a divisor of n_embd {settings['n_embd']}", found=settings["n_head"])
    if settings.get("n_inner") not in (None, 4 * settings["n_embd"]):
        expected = f"null or 4 x n_embd = {4 * settings['n_embd']} (the only width GPT knows)"
        raise FormatError(file, field="n_inner", expected=expected, found=settings["n_inner"])
    if not isinstance(settings.get("bias", True), bool):
        raise FormatError(file, field="bias", expected="true or false", found=settings["bias"])
    dropout = settings.get("resid_pdrop", 0.0)
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise FormatError(file, field="resid_pdrop", expected="a probability below 1", found=repr(dropout))
    std = settings.get("initializer_range", 0.02)
    if isinstance(std, bool) or not isinstance(std, (int, float)) or not std > 0:
        raise FormatError(file, field="initializer_range", expected="a number above 0", found=repr(std))
    config = {ours: settings[theirs] for ours, theirs in _KEYS.items()}
    return {**config, "dropout": float(dropout), "bias": settings.get("bias", True), "init_std": float(std)}


def refuse_head(tensors: Mapping[str, Any], *, file: str | os.PathLike[str]) -> None:
    """FormatError for the weights of a reward model or a classifier, which read a text but cannot write one."""
    if HEAD in tensors:
        expected = "a language model (the one that it was trained from, say)"
        raise FormatError(file, field=HEAD, expected=expected, found="the head of a reward model or a classifier")


def check_sizes(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, file: str | os.PathLike[str]) -> None:
    """FormatError unless `tensors` hold what `config` declares: asked before arrays of the declared sizes are made."""
    shapes = {name.removeprefix("transformer."): array.shape for name, array in tensors.items()}
    width = config["d_model"]
    expected: dict[str, tuple[int, ...]] = {
        "wte.weight": (config["vocab_size"], width),
        "wpe.weight": (config["block_size"], width),
        f"h.{config['n_layers'] - 1}.ln_1.weight": (width,),
    }
    for name, shape in expected.items():
        if shapes.get(name) != shape:
            found = f"shape {shapes[name]}" if name in shapes else "no such array"
            raise FormatError(file, field=name, expected=f"shape {shape}, as config.json says", found=found)


def to_tensors(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our state_dict under their names and in their orientation; absent biases as zeros."""
    tensors = {}
    for name, array in state.items():
        tensors[their_name(name)] = array.T if _is_transposed(name) else array
        bias = name.replace(".weight", ".bias")
        if name.startswith(("blocks.", "norm.")) and bias not in state:
            tensors[their_name(bias)] = np.zeros(array.shape[:1], array.dtype)
    return tensors


def from_tensors(tensors: Mapping[str, np.ndarray], names: list[str], *, file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Arrays for our `names` from their file: views, except that what they store transposed is turned, once, here.

    A token generated reads every weight once, and rows (out, in) that lie in a straight line come from memory up to twice as
    fast as columns. Extra arrays are refused unless they say nothing.

    Ignored: the causal mask that old files carry (attn.bias, attn.masked_bias), lm_head.weight where it is the tied
    table, and zero biases of a model that has none.
    """
    prefixed = {f"transformer.{name.removeprefix('transformer.')}": array for name, array in tensors.items()}
    head = prefixed.pop("transformer.lm_head.weight", None)
    table = prefixed.get("transformer.wte.weight")
    if head is not None and table is not None and not np.array_equal(head, table):
        raise FormatError(file, field="lm_head.weight", expected="the token table (tied)", found="other values")
    state = {}
    for name in names:
        array = prefixed.pop(their_name(name), None)
        if array is None:
            raise FormatError(file, field=their_name(name), expected="an array of that name", found="none")
        state[name] = np.ascontiguousarray(array.T) if _is_transposed(name) and array.ndim == 2 else array
    for name, array in prefixed.items():
        mask = name.endswith((".attn.bias", ".attn.masked_bias"))
        if not mask and not (name.endswith(".bias") and not array.any()):
            raise FormatError(file, field=name, expected="no such array in this model", found=f"shape {array.shape}")
    return state

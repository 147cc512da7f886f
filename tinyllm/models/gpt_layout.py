"""GPT-2 under Hugging Face's names: what config.json and model.safetensors call the things that `gpt.py` calls otherwise.

    ours                                  theirs
    tokens.weight (V, C)                  transformer.wte.weight (V, C)
    positions.weight                      transformer.wpe.weight
    blocks.0.norm1.weight                 transformer.h.0.ln_1.weight
    blocks.0.attention.qkv.weight (3C, C) transformer.h.0.attn.c_attn.weight (C, 3C)      stored transposed ("Conv1D")
    ... .attention.out / .feedforward.up / .down          ... .attn.c_proj / .mlp.c_fc / .c_proj, transposed too

Their GPT-2 always has biases: a model without is written with zeros in their place and `"bias": false` beside.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinyllm.models.config_file import ONLY, check_count, check_flag, check_only, check_positive, warn_unknown
from tinyllm.models.folder_layout import File, Tensors, check_shapes
from tinyllm.storage import FormatError

MODEL_TYPES = ("gpt2",)
LORA_NAMES = {"qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
TRANSPOSED = True  # their layers are "Conv1D"

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
_KEYS = {"vocab_size": "vocab_size", "block_size": "n_positions", "n_layers": "n_layer", "n_heads": "n_head", "d_model": "n_embd"}
_ONLY: dict[str, tuple[Any, ...]] = {  # settings of theirs that change what is computed, and what gpt.py computes
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),  # two names of one function
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    **ONLY,
}
_READ = {*_KEYS.values(), "n_inner", "tie_word_embeddings", "resid_pdrop", "initializer_range", "bias"}
_WITHOUT_EFFECT = {"attn_pdrop", "embd_pdrop", "n_ctx", "reorder_and_upcast_attn"}


def _is_transposed(name: str) -> bool:
    return name.endswith(".weight") and (".attention." in name or ".feedforward." in name)


def their_name(name: str) -> str:
    """The path of a weight (or of a layer, with a dot at the end) as transformers' GPT2LMHeadModel calls it."""
    for ours, theirs in _RENAMED.items():
        name = name.replace(ours, theirs)
    return "transformer." + name


def head_architecture(config: Any) -> str:
    """Their class of a trunk with a head that scores labels."""
    return "GPT2ForSequenceClassification"


def to_config(config: Any) -> dict[str, Any]:
    """A GPTConfig as a config.json that transformers' GPT2LMHeadModel reads."""
    dropout = {name: config.dropout for name in ("embd_pdrop", "resid_pdrop")}
    sizes = {theirs: getattr(config, ours) for ours, theirs in _KEYS.items()} | {"n_inner": config.n_inner}
    head = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    only = {key: _ONLY[key][0] for key in list(_ONLY)[:4]} | {"add_cross_attention": False, "tie_word_embeddings": True}
    # GPT-2's own end-of-text id lies outside a smaller vocabulary: `pretrained.save` puts the tokenizer's ids here
    no_ids = {"bos_token_id": None, "eos_token_id": None}
    own = {"initializer_range": config.init_std, "bias": config.bias}
    return {**head, **sizes, **dropout, "attn_pdrop": 0.0, **only, **no_ids, **own}


def from_config(settings: Mapping[str, Any], *, file: File) -> dict[str, Any]:
    """GPTConfig's fields from a config.json, ours or theirs. FormatError for a missing key or a variant gpt.py is not.

    A setting that is neither known nor empty is named in a warning: what it would change is not done.
    """
    sizes = {ours: check_count(settings, theirs, file=file) for ours, theirs in _KEYS.items()}
    check_only(settings, _ONLY, file=file, kind="GPT")
    if sizes["d_model"] % sizes["n_heads"]:
        raise FormatError(file, field="n_head", expected=f"a divisor of n_embd {sizes['d_model']}", found=sizes["n_heads"])
    n_inner = None if settings.get("n_inner") is None else check_count(settings, "n_inner", file=file)
    check_flag(settings, "tie_word_embeddings", default=True, file=file)
    bias = check_flag(settings, "bias", default=True, file=file)
    dropout, std = settings.get("resid_pdrop", 0.0), check_positive(settings, "initializer_range", default=0.02, file=file)
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise FormatError(file, field="resid_pdrop", expected="a probability below 1", found=repr(dropout))
    warn_unknown(settings, {*_READ, *_ONLY, *_WITHOUT_EFFECT}, file=file, kind="GPT")
    return {**sizes, "n_inner": n_inner, "dropout": float(dropout), "bias": bias, "init_std": std}


def arrange(tensors: Tensors, config: Any, *, settings: Mapping[str, Any], file: File) -> dict[str, np.ndarray]:
    """Their arrays under full names, of the sizes that config.json declares."""
    full = one_table(tensors, tied=settings.get("tie_word_embeddings", True), file=file)
    width, last = config.d_model, f"transformer.h.{config.n_layers - 1}."
    expected = {
        "transformer.wte.weight": (config.vocab_size, width),
        "transformer.wpe.weight": (config.block_size, width),
        last + "ln_1.weight": (width,),
        last + "mlp.c_fc.weight": (width, config.d_feedforward),
    }
    check_shapes(full, expected, file=file)
    return full


def one_table(tensors: Tensors, *, tied: bool, file: File) -> dict[str, np.ndarray]:
    """The arrays under full names ("transformer.wte.weight"), with one token table, which reads and scores.

    Files hold it as wte, as lm_head, or as both, since in the model the two are one array. FormatError if both are there
    and differ, or if config.json says that they are two (`tied` false) and one is missing: GPT has no second table.
    """
    full: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        key = name if name.startswith("transformer.") else f"transformer.{name}"
        if key in full:
            raise FormatError(
                file, field=key, expected="each array once", found=f"it, and {key.removeprefix('transformer.')} too"
            )
        full[key] = array
    head, table = full.pop("transformer.lm_head.weight", None), full.get("transformer.wte.weight")
    if not tied and (head is None or table is None):
        missing = "lm_head.weight" if head is None else "wte.weight"
        raise FormatError(file, field=missing, expected="an array (config.json: tie_word_embeddings is false)", found="none")
    if head is not None and table is not None and not np.array_equal(head, table):
        expected = "the token table again, for in GPT one table reads and scores"
        raise FormatError(file, field="lm_head.weight", expected=expected, found="other values: an untied model")
    if table is None and head is not None:
        full["transformer.wte.weight"] = head
    return full


def to_tensors(state: Tensors) -> dict[str, np.ndarray]:
    """Our state_dict under their names and in their orientation; absent biases as zeros."""
    tensors = {}
    for name, array in state.items():
        tensors[their_name(name)] = array.T if _is_transposed(name) else array
        bias = name.replace(".weight", ".bias")
        if name.startswith(("blocks.", "norm.")) and bias not in state:
            tensors[their_name(bias)] = np.zeros(array.shape[:1], array.dtype)
    return tensors


def from_tensors(tensors: Tensors, names: list[str], *, file: File) -> dict[str, np.ndarray]:
    """Arrays for our `names` from those of `one_table`: views, except that what they store transposed is turned, once, here.

    A token generated reads every weight once, and rows (out, in) that lie in a straight line come from memory up to twice as
    fast as columns. Extra arrays are refused unless they say nothing: the causal mask that old files carry (attn.bias,
    attn.masked_bias), and zero biases of a model that has none.
    """
    left, state = dict(tensors), {}
    for name in names:
        array = left.pop(their_name(name), None)
        if array is None:
            raise FormatError(file, field=their_name(name), expected="an array of that name", found="none")
        state[name] = np.ascontiguousarray(array.T) if _is_transposed(name) and array.ndim == 2 else array
    for name, array in left.items():
        mask = name.endswith((".attn.bias", ".attn.masked_bias"))
        if not mask and not (name.endswith(".bias") and not array.any()):
            raise FormatError(file, field=name, expected="no such array in this model", found=f"shape {array.shape}")
    return state

"""GPT-2 under Hugging Face's names: what config.json and model.safetensors call the things that `gpt.py` calls otherwise.

    ours                                  theirs
    tokens.weight (V, C)                  transformer.wte.weight (V, C)
    positions.weight                      transformer.wpe.weight
    blocks.0.norm1.weight                 transformer.h.0.ln_1.weight
    blocks.0.attention.qkv.weight (3C, C) transformer.h.0.attn.c_attn.weight (C, 3C)      stored transposed ("Conv1D")
    ... .attention.out / .feedforward.up / .down          ... .attn.c_proj / .mlp.c_fc / .c_proj, transposed too

Their GPT-2 always has biases: a model without is written with zeros in their place and `"bias": false` beside.
"""

import os
import warnings
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
_KEYS = {"vocab_size": "vocab_size", "block_size": "n_positions", "n_layers": "n_layer", "n_heads": "n_head", "d_model": "n_embd"}
_ONLY: dict[str, tuple[Any, ...]] = {  # settings of theirs that change what is computed, and what gpt.py computes
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),  # two names of one function
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "quantization_config": (None,),
    "pruned_heads": ({}, None),
}
_READ = {*_KEYS.values(), "n_inner", "tie_word_embeddings", "resid_pdrop", "initializer_range", "bias", "model_type",
         "architectures", "bos_token_id", "eos_token_id", "pad_token_id", "num_labels", "reward_gain", "reward_bias"}  # fmt: skip
_WITHOUT_EFFECT = set(  # on what a trained model computes: names, how it was trained, how transformers keeps and calls it
    "attn_pdrop embd_pdrop n_ctx use_cache reorder_and_upcast_attn transformers_version torch_dtype dtype _name_or_path "
    "task_specific_params id2label label2id problem_type tokenizer_class use_bfloat16 torchscript return_dict "
    "chunk_size_feed_forward gradient_checkpointing finetuning_task output_past attn_implementation "
    "_attn_implementation_autoset is_decoder prefix max_length min_length do_sample temperature top_k top_p num_beams "
    "repetition_penalty length_penalty num_return_sequences diversity_penalty num_beam_groups typical_p".split()
)


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
    sizes = {theirs: config[ours] for ours, theirs in _KEYS.items()} | {"n_inner": config["n_inner"]}
    head = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    only = {key: _ONLY[key][0] for key in list(_ONLY)[:5]} | {"tie_word_embeddings": True}
    # GPT-2's own end-of-text id lies outside a smaller vocabulary: `pretrained.save` puts the tokenizer's ids here
    no_ids = {"bos_token_id": None, "eos_token_id": None}
    own = {"initializer_range": config["init_std"], "bias": config["bias"]}
    return {**head, **sizes, **dropout, "attn_pdrop": 0.0, **only, **no_ids, **own}


def from_config(settings: Mapping[str, Any], *, file: str | os.PathLike[str]) -> dict[str, Any]:
    """GPTConfig's fields from a config.json, ours or theirs. FormatError for a missing key or a variant gpt.py is not.

    A setting that is neither known nor empty is named in a warning: what it would change is not done.
    """
    for key in _KEYS.values():
        check_count(settings, key, file=file)
    for key, known in _ONLY.items():
        if settings.get(key, known[0]) not in known:
            expected = " or ".join(map(repr, known)) + " (all that GPT knows)"
            raise FormatError(file, field=key, expected=expected, found=repr(settings[key]))
    if settings["n_embd"] % settings["n_head"]:
        raise FormatError(file, field="n_head", expected=f"a divisor of n_embd {settings['n_embd']}", found=settings["n_head"])
    if settings.get("n_inner") is not None:
        check_count(settings, "n_inner", file=file)
    for key in ("bias", "tie_word_embeddings"):
        if not isinstance(settings.get(key, True), bool):
            raise FormatError(file, field=key, expected="true or false", found=repr(settings[key]))
    dropout, std = settings.get("resid_pdrop", 0.0), settings.get("initializer_range", 0.02)
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise FormatError(file, field="resid_pdrop", expected="a probability below 1", found=repr(dropout))
    if isinstance(std, bool) or not isinstance(std, (int, float)) or not std > 0:
        raise FormatError(file, field="initializer_range", expected="a number above 0", found=repr(std))
    _tell_unknown(settings, file)
    config = {ours: settings[theirs] for ours, theirs in _KEYS.items()} | {"n_inner": settings.get("n_inner")}
    return {**config, "dropout": float(dropout), "bias": settings.get("bias", True), "init_std": float(std)}


def check_count(settings: Mapping[str, Any], key: str, *, file: str | os.PathLike[str]) -> int:
    """The whole number of at least 1 that config.json must have under `key`; FormatError for anything else."""
    value = settings.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise FormatError(file, field=key, expected="a whole number of at least 1", found=repr(value))
    return value


def _tell_unknown(settings: Mapping[str, Any], file: str | os.PathLike[str]) -> None:
    """Warns of settings that are not known here. Those that are off (null, false, 0 or empty) say nothing."""
    known = _READ | _ONLY.keys() | _WITHOUT_EFFECT
    unknown = [
        key for key, value in settings.items() if value and key not in known and not key.startswith(("summary_", "output_"))
    ]
    if unknown:
        text = f"{file}: {', '.join(unknown)}: not known to GPT and ignored; if the model needs it, its answers will be wrong"
        warnings.warn(text, stacklevel=2)


def refuse_head(tensors: Mapping[str, Any], *, file: str | os.PathLike[str]) -> None:
    """FormatError for the weights of a reward model or a classifier, which read a text but cannot write one."""
    if HEAD in tensors:
        expected = "a language model (the one that it was trained from, say)"
        raise FormatError(file, field=HEAD, expected=expected, found="the head of a reward model or a classifier")


def one_table(tensors: Mapping[str, np.ndarray], *, tied: bool, file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
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


def check_sizes(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, file: str | os.PathLike[str]) -> None:
    """FormatError unless `tensors` hold what `config` declares: asked before arrays of the declared sizes are made."""
    width, last = config["d_model"], f"h.{config['n_layers'] - 1}."
    expected: dict[str, tuple[int, ...]] = {
        "wte.weight": (config["vocab_size"], width),
        "wpe.weight": (config["block_size"], width),
        last + "ln_1.weight": (width,),
        last + "mlp.c_fc.weight": (width, config["n_inner"] or 4 * width),
    }
    for name, shape in expected.items():
        array = tensors.get(f"transformer.{name}")
        if array is None or array.shape != shape:
            found = "no such array" if array is None else f"shape {array.shape}"
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

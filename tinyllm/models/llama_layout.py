"""Llama, Mistral, Qwen2 and Qwen3 under Hugging Face's names: one architecture, whose differences config.json names.

    ours                                       theirs
    tokens.weight                              model.embed_tokens.weight
    blocks.0.attention.query .key .value       model.layers.0.self_attn.q_proj .k_proj .v_proj
    blocks.0.attention.out                     ... .self_attn.o_proj
    blocks.0.attention.query_norm .key_norm    ... .self_attn.q_norm .k_norm                  Qwen3
    blocks.0.feedforward.gate .up .down        ... .mlp.gate_proj .up_proj .down_proj
    blocks.0.norm1, .norm2; norm               ... .input_layernorm, .post_attention_layernorm; model.norm
    head.weight                                lm_head.weight

Rotary settings stand under "rope_theta" and "rope_scaling", or in newer files together under "rope_parameters"; both are read,
and both are written, so that old and new programs find them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinyllm.models.config_file import ONLY, check_count, check_flag, check_only, check_positive, warn_unknown
from tinyllm.models.folder_layout import File, Tensors, check_shapes
from tinyllm.nn import RotaryScaling
from tinyllm.storage import FormatError

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
LORA_NAMES = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj",
              "gate": "gate_proj", "up": "up_proj", "down": "down_proj"}  # fmt: skip
TRANSPOSED = False

_RENAMED = {
    "tokens.": "model.embed_tokens.",
    "blocks.": "model.layers.",
    ".norm1.": ".input_layernorm.",
    ".norm2.": ".post_attention_layernorm.",
    ".attention.query_norm.": ".self_attn.q_norm.",
    ".attention.key_norm.": ".self_attn.k_norm.",
    ".attention.query.": ".self_attn.q_proj.",
    ".attention.key.": ".self_attn.k_proj.",
    ".attention.value.": ".self_attn.v_proj.",
    ".attention.out.": ".self_attn.o_proj.",
    ".feedforward.gate.": ".mlp.gate_proj.",
    ".feedforward.up.": ".mlp.up_proj.",
    ".feedforward.down.": ".mlp.down_proj.",
}
_SIZES = {"vocab_size": "vocab_size", "block_size": "max_position_embeddings", "n_layers": "num_hidden_layers",
          "n_heads": "num_attention_heads", "d_model": "hidden_size", "n_inner": "intermediate_size"}  # fmt: skip
_ONLY: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",), "mlp_bias": (False,), "pretraining_tp": (1, None), "use_sliding_window": (False, None),
    "partial_rotary_factor": (1.0, None), **ONLY,
}  # fmt: skip
_READ = {*_SIZES.values(), "num_key_value_heads", "head_dim", "rms_norm_eps", "tie_word_embeddings", "rope_theta", "rope_scaling",
         "rope_parameters", "attention_bias", "sliding_window", "initializer_range", "layer_types"}  # fmt: skip
_WITHOUT_EFFECT = {"attention_dropout", "max_window_layers"}
_ROPE = {  # our fields of a scaling -> theirs
    "factor": "factor", "original_context": "original_max_position_embeddings", "low_turns": "low_freq_factor",
    "high_turns": "high_freq_factor", "fast_turns": "beta_fast", "slow_turns": "beta_slow", "whole_pairs": "truncate",
    "attention_factor": "attention_factor",
}  # fmt: skip
_ROPE_OF = {
    "linear": ("factor",),
    "llama3": ("factor", "original_context", "low_turns", "high_turns"),
    "yarn": ("factor", "original_context", "fast_turns", "slow_turns", "whole_pairs", "attention_factor"),
}


def their_name(name: str) -> str:
    """The path of a weight (or of a layer, with a dot at the end) as transformers' LlamaForCausalLM calls it."""
    if name.startswith("norm."):
        return "model." + name
    if name.startswith("head."):
        return "lm_" + name
    for ours, theirs in _RENAMED.items():
        name = name.replace(ours, theirs)
    return name


def model_type(config: Any) -> str:
    """Which of the families has such models. ValueError if none has."""
    fits = {
        "llama": config.window is None and not config.qk_norm and config.qkv_bias == config.out_bias,
        "mistral": not (config.qk_norm or config.qkv_bias or config.out_bias),
        "qwen2": config.window is None and not config.qk_norm and config.qkv_bias and not config.out_bias,
        "qwen3": config.window is None and config.qk_norm and config.qkv_bias == config.out_bias,
    }
    if not any(fits.values()):
        given = ", ".join(f"{name} {getattr(config, name)}" for name in ("window", "qk_norm", "qkv_bias", "out_bias"))
        raise ValueError(f"config: no published family has {given} together, so no folder can say it; change one of them")
    return next(name for name, fitting in fits.items() if fitting)


def _class_name(config: Any) -> str:
    return {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}[model_type(config)]


def head_architecture(config: Any) -> str:
    """Their class of a trunk with a head that scores labels."""
    return f"{_class_name(config)}ForSequenceClassification"


def to_config(config: Any) -> dict[str, Any]:
    """A LlamaConfig as a config.json that transformers reads."""
    kind = model_type(config)
    sizes = {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()} | {"intermediate_size": config.d_feedforward}
    heads = {"num_key_value_heads": config.n_groups, "head_dim": config.d_head}
    same = {"hidden_act": "silu", "attention_dropout": 0.0, "rms_norm_eps": config.norm_eps, "tie_word_embeddings": config.tied}
    scaling = None if config.rope_scaling is None else _scaling_to_config(config.rope_scaling)
    rope = {"rope_theta": config.rope_base, "rope_scaling": scaling}
    rope["rope_parameters"] = {"rope_theta": config.rope_base, **(scaling or {"rope_type": "default"})}
    own: dict[str, Any] = {"initializer_range": config.init_std, "bos_token_id": None, "eos_token_id": None}
    if kind in ("llama", "qwen3"):
        own["attention_bias"] = config.qkv_bias
    if kind == "llama":
        own["mlp_bias"] = False
    if kind == "mistral":
        own["sliding_window"] = config.window
    if kind.startswith("qwen"):
        own["use_sliding_window"] = False
    return {"model_type": kind, "architectures": [f"{_class_name(config)}ForCausalLM"], **sizes, **heads, **same, **rope, **own}


def _scaling_to_config(scaling: RotaryScaling) -> dict[str, Any]:
    given = {_ROPE[name]: getattr(scaling, name) for name in _ROPE_OF[scaling.kind]}
    return {"rope_type": scaling.kind, **{key: value for key, value in given.items() if value is not None}}


def from_config(settings: Mapping[str, Any], *, file: File) -> dict[str, Any]:
    """LlamaConfig's fields from a config.json. FormatError for a missing key, or a variant that llama.py is not.

    A setting that is neither known nor empty is named in a warning: what it would change is not done.
    """
    kind = settings["model_type"]
    sizes = {ours: check_count(settings, theirs, file=file) for ours, theirs in _SIZES.items()}
    check_only(settings, _ONLY, file=file, kind="Llama")
    n_heads, width = sizes["n_heads"], sizes["d_model"]
    n_kv_heads = check_count(settings, "num_key_value_heads", default={"mistral": 8, "qwen2": 32, "qwen3": 32}.get(kind, n_heads),
                             file=file)  # fmt: skip
    head_dim = check_count(settings, "head_dim", default=128 if kind == "qwen3" else max(1, width // n_heads), file=file)
    if n_heads % n_kv_heads:
        raise FormatError(file, field="num_key_value_heads", expected=f"a divisor of {n_heads} heads", found=str(n_kv_heads))
    if head_dim % 2 or ("head_dim" not in settings and width % n_heads):
        found = f"{width} over {n_heads} heads" if "head_dim" not in settings else str(head_dim)
        raise FormatError(file, field="head_dim", expected="an even width of heads", found=found)
    base, scaling = _rotary_from_config(settings, sizes["block_size"], file)
    biased = check_flag(settings, "attention_bias", default=False, file=file)
    warn_unknown(settings, {*_READ, *_ONLY, *_WITHOUT_EFFECT}, file=file, kind="Llama")
    return {
        **sizes, "n_kv_heads": n_kv_heads, "head_dim": head_dim, "rope_base": base, "rope_scaling": scaling,
        "norm_eps": check_positive(settings, "rms_norm_eps", default=1e-6, file=file),
        "tied": check_flag(settings, "tie_word_embeddings", default=False, file=file),
        "window": _window(settings, kind, file), "qkv_bias": kind == "qwen2" or biased,
        "out_bias": biased and kind != "qwen2", "qk_norm": kind == "qwen3",
        "init_std": check_positive(settings, "initializer_range", default=0.02, file=file),
    }  # fmt: skip


def _window(settings: Mapping[str, Any], kind: str, file: File) -> int | None:
    """Mistral's sliding window, the same in all layers; the others' must be off."""
    if wrong := {*(settings.get("layer_types") or ())} - {"full_attention", "sliding_attention" if kind == "mistral" else ""}:
        raise FormatError(file, field="layer_types", expected="full_attention in every layer", found=sorted(wrong)[0])
    if kind != "mistral" or settings.get("sliding_window", 4096) is None:
        return None
    return check_count(settings, "sliding_window", default=4096, file=file)


def _rotary_from_config(settings: Mapping[str, Any], block_size: int, file: File) -> tuple[float, RotaryScaling | None]:
    """The base of the angles, and how they are stretched."""
    field = "rope_parameters" if settings.get("rope_parameters") else "rope_scaling"
    given = settings.get(field) or {}
    if not isinstance(given, Mapping):
        raise FormatError(file, field=field, expected="an object or null", found=repr(given))
    base = check_positive({**settings, **given}, "rope_theta", default=10_000.0, file=file)
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return base, None
    if kind not in _ROPE_OF:
        raise FormatError(file, field=f"{field}.rope_type", expected=f"one of default, {', '.join(_ROPE_OF)}", found=repr(kind))
    values = _scaling_values(given, kind, field, settings, block_size=block_size, file=file)
    try:
        return base, RotaryScaling(kind, **values)
    except (TypeError, ValueError) as error:
        raise FormatError(file, field=field, expected=f"what a scaling of kind {kind} needs", found=str(error)) from None


def _scaling_values(
    given: Mapping[str, Any], kind: str, field: str, settings: Mapping[str, Any], *, block_size: int, file: File
) -> dict[str, Any]:
    """The fields of a RotaryScaling. FormatError for one that is no number, and for one that this kind does not have."""
    known = {"rope_type", "type", "rope_theta", *(_ROPE[name] for name in _ROPE_OF[kind])}
    for key in given:
        if key not in known and given[key] not in (None, 1.0):
            raise FormatError(file, field=f"{field}.{key}", expected=f"no such setting of {kind}", found=repr(given[key]))
    values = {ours: given[_ROPE[ours]] for ours in _ROPE_OF[kind] if given.get(_ROPE[ours]) is not None}
    if "original_context" in _ROPE_OF[kind]:
        values.setdefault("original_context", settings.get("original_max_position_embeddings") or block_size)
    named = {f"{field}.{_ROPE[name]}": value for name, value in values.items()}
    for name in values:
        key = f"{field}.{_ROPE[name]}"
        if name == "whole_pairs":
            check_flag(named, key, default=True, file=file)
        else:
            check_positive(named, key, file=file)
    return values


def arrange(tensors: Tensors, config: Any, *, settings: Mapping[str, Any], file: File) -> dict[str, np.ndarray]:
    """Their arrays under full names, of the sizes that config.json declares; of a tied model the one table."""
    full = {name if name.startswith(("model.", "lm_head.", "score.")) else f"model.{name}": a for name, a in tensors.items()}
    full = {name: array for name, array in full.items() if not name.endswith("rotary_emb.inv_freq")}  # old files carry it
    table = "model.embed_tokens.weight"
    if config.tied:
        head = full.pop("lm_head.weight", None)
        full.setdefault(table, head) if head is not None else None
        if head is not None and not np.array_equal(head, full[table]):
            expected = "the token table again (config.json: tie_word_embeddings is true)"
            raise FormatError(file, field="lm_head.weight", expected=expected, found="other values")
    width, last = config.d_model, f"model.layers.{config.n_layers - 1}."
    expected_shapes = {
        table: (config.vocab_size, width),
        last + "self_attn.q_proj.weight": (config.n_heads * config.d_head, width),
        last + "self_attn.k_proj.weight": (config.n_groups * config.d_head, width),
        last + "mlp.down_proj.weight": (width, config.d_feedforward),
    }
    check_shapes(full, expected_shapes, file=file)
    return full


def to_tensors(state: Tensors) -> dict[str, np.ndarray]:
    """Our state_dict under their names."""
    return {their_name(name): array for name, array in state.items()}


def from_tensors(tensors: Tensors, names: list[str], *, file: File) -> dict[str, np.ndarray]:
    """Arrays for our `names` from those of `arrange`. FormatError for a missing one, and one that has no place."""
    left, state = dict(tensors), {}
    for name in names:
        if (array := left.pop(their_name(name), None)) is None:
            raise FormatError(file, field=their_name(name), expected="an array of that name", found="none")
        state[name] = array
    for name, array in left.items():
        raise FormatError(file, field=name, expected="no such array in this model", found=f"shape {array.shape}")
    return state

"""Reading another project's config.json: each key is used, known to change nothing, or named in an error or a warning.

A setting that is passed over in silence is a model that answers nonsense in silence. So a layout says which keys it reads, which
it can have one value of only, and which are without effect on what a trained model computes.
"""

import math
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from tinyllm.storage import FormatError

Settings = Mapping[str, Any]
File = str | os.PathLike[str]

WITHOUT_EFFECT = frozenset(  # names, how it was trained, how transformers keeps and calls it
    "use_cache transformers_version torch_dtype dtype _name_or_path task_specific_params id2label label2id problem_type "
    "tokenizer_class use_bfloat16 torchscript return_dict chunk_size_feed_forward gradient_checkpointing finetuning_task "
    "output_past attn_implementation _attn_implementation_autoset is_decoder prefix max_length min_length do_sample temperature "
    "top_k top_p num_beams repetition_penalty length_penalty num_return_sequences diversity_penalty num_beam_groups typical_p "
    "architectures model_type bos_token_id eos_token_id pad_token_id num_labels reward_gain reward_bias".split()
)
ONLY: dict[str, tuple[Any, ...]] = {  # what no architecture here is
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "quantization_config": (None,),
    "pruned_heads": ({}, None),
}


def check_count(settings: Settings, key: str, *, file: File, default: int | None = None) -> int:
    """The whole number of at least 1 under `key`; FormatError for anything else."""
    value = settings.get(key, default)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise FormatError(file, field=key, expected="a whole number of at least 1", found=repr(value))
    return value


def check_flag(settings: Settings, key: str, *, default: bool, file: File) -> bool:
    """true or false."""
    value = settings.get(key, default)
    if not isinstance(value, bool):
        raise FormatError(file, field=key, expected="true or false", found=repr(value))
    return value


def check_positive(settings: Settings, key: str, *, file: File, default: float | None = None) -> float:
    """A finite number above 0; FormatError for anything else."""
    value = settings.get(key, default)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise FormatError(file, field=key, expected="a number above 0", found=repr(value))
    return float(value)


def check_only(settings: Settings, only: Mapping[str, tuple[Any, ...]], *, file: File, kind: str) -> None:
    """FormatError for a setting that has another value than those that `kind` computes."""
    for key, known in only.items():
        if settings.get(key, known[0]) not in known:
            expected = " or ".join(map(repr, known)) + f" (all that {kind} knows)"
            raise FormatError(file, field=key, expected=expected, found=repr(settings[key]))


def warn_unknown(settings: Settings, known: Iterable[str], *, file: File, kind: str) -> None:
    """Warns of settings that are not known here. Those that are off (null, false, 0 or empty) say nothing."""
    told = {*known, *WITHOUT_EFFECT, *ONLY}
    unknown = [
        key for key, value in settings.items() if value and key not in told and not key.startswith(("summary_", "output_"))
    ]
    if unknown:
        text = f"{file}: {', '.join(unknown)}: not known to {kind} and ignored; if the model needs it, its answers will be wrong"
        warnings.warn(text, stacklevel=3)

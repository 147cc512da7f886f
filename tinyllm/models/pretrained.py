"""A model as a folder that others can read: config.json, model.safetensors, tokenizer.json (Hugging Face's layout).

With a tokenizer come two small files more, tokenizer_config.json and generation_config.json: they say with which tokens a text
begins and ends and how a chat is written, so that transformers stops where we stop and chats as we chat.

The weights carry the sha256 of the tokenizer they were trained with. A model does not read text but ids: with another
tokenizer's ids it would answer fluent nonsense, so a folder whose tokenizer was exchanged is refused.
"""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.models.config_file import check_count
from tinyllm.nn import Module
from tinyllm.storage import FormatError, safetensors, sharded, strict_json, write_file
from tinyllm.tokenizers import Tokenizer, load_tokenizer
from tinyllm.tokenizers.chat_templates import TEMPLATES, recognise
from tinyllm.tokenizers.special import declared_ids, other_program

Folder = str | os.PathLike[str]
WEIGHTS = "model.safetensors"
GENERATION = "generation_config.json"
_FINGERPRINT = "tokenizer_sha256"


def save(
    folder: Folder, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, tokenizer: Tokenizer | None = None,
    dtype: str = "float32", max_shard_bytes: int | None = None,
) -> None:  # fmt: skip
    """Write the files, each whole or not at all; config.json comes last, so a folder without it is unfinished.

    dtype            of the weights in the file: float32, float16 or bfloat16
    max_shard_bytes  cut the weights into files of at most so many bytes, with an index
    """
    folder, bits = Path(folder), {"float32": 4, "float16": 2, "bfloat16": 2}
    if dtype not in bits:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(bits)}")
    if max_shard_bytes is not None and max_shard_bytes < 1:
        raise ValueError(f"max_shard_bytes is {max_shard_bytes}; expected at least 1, or None")
    if rounded := [name for name, array in tensors.items() if array.dtype.kind != "f"]:
        raise ValueError(f"{rounded[0]} is {tensors[rounded[0]].dtype}: save the float model, and quantize it when it is loaded")
    if any(".lora_" in name for name in tensors):
        raise ValueError(
            "model has LoRA adapters, for which this layout has no place; merge_lora(model) first, or keep the adapters alone "
            "with models.save_adapters"
        )
    tensors = _stored_as(dtype, tensors)
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
        ids, generation = _ids_of(tokenizer)
        config = {**config, **ids}
        write_file(folder / GENERATION, json.dumps(generation, indent=2).encode() + b"\n")
    rounded_to, index = tuple(tensors) if dtype == "bfloat16" else (), folder / (WEIGHTS + sharded.SUFFIX)
    if max_shard_bytes is None:
        safetensors.save(folder / WEIGHTS, tensors, metadata=metadata, bfloat16=rounded_to)
        sharded.remove(index)  # of an earlier save
    else:
        sharded.save(index, tensors, max_bytes=max_shard_bytes, metadata=metadata, bfloat16=rounded_to)
        (folder / WEIGHTS).unlink(missing_ok=True)  # of an earlier save: it would be read first
    own = {} if dtype == "float32" else {"torch_dtype": dtype}
    write_file(folder / "config.json", json.dumps({**config, **own}, indent=2).encode() + b"\n")


def _stored_as(dtype: str, tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The arrays as the file shall hold them. ValueError for a number that float16 has not."""
    if dtype == "bfloat16":
        return {name: safetensors.to_bfloat16(array) for name, array in tensors.items()}
    if dtype == "float32":
        return tensors
    for name, array in tensors.items():
        if (largest := float(np.abs(array).max(initial=0))) > float(np.finfo(np.float16).max):
            raise ValueError(f"dtype: {name} holds {largest:g}, and float16 ends at 65,504; choose bfloat16")
    return {name: array.astype(np.float16) for name, array in tensors.items()}


def weights_file(folder: Folder) -> Path:
    """The file with a model's weights, or the index of the files that hold them. FileNotFoundError says what is there instead."""
    folder = Path(folder)
    for name in (WEIGHTS, WEIGHTS + sharded.SUFFIX):
        if (folder / name).is_file():
            return folder / name
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"):
        if (folder / name).exists():
            advice = "load it with transformers and save it again with save_pretrained, which writes model.safetensors"
            raise FileNotFoundError(f"{folder} holds its weights as {name}, a format that is not read here; {advice}")
    raise FileNotFoundError(f"{folder} is not a model folder: it has no {WEIGHTS}")


def array_names(folder: Folder) -> set[str]:
    """The names of a model's arrays, of which none is read."""
    file = weights_file(folder)
    return set(safetensors.read_header(file).tensors) if file.name == WEIGHTS else sharded.names(file)


def refuse_missing_config(folder: Folder) -> None:
    """FileNotFoundError for a folder without config.json."""
    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is not a model folder: it has no config.json")


def read_config(folder: Folder) -> dict[str, Any]:
    """config.json as a dict; FormatError if it is not a JSON object."""
    return strict_json.read(Path(folder) / "config.json", schema=strict_json.MapOf(object))


def load(folder: Folder, *, model_types: Sequence[str]) -> tuple[dict[str, Any], dict[str, np.ndarray], Path]:
    """config.json as a dict, the weights as mapped arrays (copy-on-write: training them does not change the file), their file.

    FileNotFoundError says which file is missing; FormatError what is wrong in one.
    """
    folder = Path(folder)
    refuse_missing_config(folder)
    file, config = weights_file(folder), read_config(folder)
    if (found := config.get("model_type")) not in model_types:
        expected = repr(model_types[0]) if len(model_types) == 1 else f"one of {', '.join(model_types)}"
        raise FormatError(folder / "config.json", field="model_type", expected=expected, found=repr(found))
    return config, (safetensors if file.name == WEIGHTS else sharded).load(file), file


def adopt(model: Module, state: Mapping[str, np.ndarray], *, file: Folder) -> None:
    """Use the arrays in `state` as the model's weights, without copying. FormatError unless float32 and fitting."""
    for name, array in state.items():
        if array.dtype != np.float32:
            raise FormatError(file, field=name, expected="32, 16 or bfloat16 floating point", found=str(array.dtype))
    try:
        model.load_state_dict(state, assign=True)
    except ValueError as error:
        raise FormatError(file, field="tensors", expected="the shapes that config.json gives", found=str(error)) from None


def load_tokenizer_for(folder: Folder) -> Tokenizer:
    """The tokenizer in a model folder, after checking that the weights beside it, if any, were trained with it."""
    folder = Path(folder)
    tokenizer = load_tokenizer(folder)
    files = [folder / WEIGHTS, *sorted(folder.glob("*-00001-of-*.safetensors"))]  # of shards, each says it
    file = next((file for file in files if file.is_file()), None)
    expected = None if file is None else safetensors.read_header(file).metadata.get(_FINGERPRINT)
    if expected is not None and tokenizer.fingerprint() != expected:
        raise FormatError(
            folder / "tokenizer.json",
            field="sha256",
            expected=f"{expected[:12]}..., the tokenizer these weights were trained with",
            found=f"{tokenizer.fingerprint()[:12]}... (put the model's own tokenizer.json back)",
        )
    if (program := other_program(folder)) and recognise(program[1]) is None:
        text = f"its chat template is not known here, and programs are not run; name one of {', '.join(TEMPLATES)} or plain"
        warnings.warn(f"{folder / program[0]}: {text}", stacklevel=2)
    config = read_config(folder)
    size = check_count(config, "vocab_size", file=folder / "config.json")
    _check_size(tokenizer.vocab_size, size, folder)
    return _with_ids(tokenizer, config, size, folder)


def _with_ids(tokenizer: Tokenizer, config: Mapping[str, Any], size: int, folder: Path) -> Tokenizer:
    """The tokenizer, knowing the ids that config.json and generation_config.json give for the begin and the end of a text.

    An id that the model has no token for (GPT-2's own 50256 stands in many small models' files) can never come: it says nothing.
    """
    sources = [(config, folder / "config.json")]
    if (folder / GENERATION).is_file():
        sources.append((strict_json.read(folder / GENERATION, schema=strict_json.MapOf(object)), folder / GENERATION))
    begins, ends = ([i for settings, file in sources for i in declared_ids(settings, key, file=file) if i < size]
                    for key in ("bos_token_id", "eos_token_id"))  # fmt: skip
    bos_id = next((i for i in begins if i < tokenizer.vocab_size), None)
    return tokenizer.with_said_ids(bos_id=bos_id, stop_ids=ends)


def _ids_of(tokenizer: Tokenizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """What config.json and generation_config.json say of the ids that begin, end and pad a text. Several ends are a list."""
    ends = list(tokenizer.stop_ids)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    return ids, {**ids, "eos_token_id": ends if len(ends) > 1 else tokenizer.eos_id, "pad_token_id": tokenizer.eos_id}


def _check_size(tokenizer_size: int, model_size: int, folder: Path) -> None:
    if tokenizer_size > model_size:
        raise FormatError(
            folder / "tokenizer.json",
            field="vocabulary",
            expected=f"at most {model_size} tokens, the model's vocab_size",
            found=f"{tokenizer_size} tokens",
        )

"""Arrays in several safetensors files: what is too large for one is cut into shards, and an index says where each array is.

    model.safetensors.index.json    {"weight_map": {"wte.weight": "model-00001-of-00002.safetensors", ...}}

Layout: transformers' `save_pretrained` with max_shard_size. The index comes from a stranger too: it may name files of its own
folder only, and it must name every array that is in them, once.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.storage import atomic, safetensors, strict_json
from tinyllm.storage.strict_json import FormatError, MapOf, Optional

SUFFIX = ".index.json"
_INDEX = {"metadata": Optional(object), "weight_map": MapOf(str)}


def load(index: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of the shards that the file `index` names, mapped as `safetensors.load` maps them.

    FormatError names the shard or the array that is missing, there twice, or outside the folder.
    """
    index = Path(index)
    places = _places(index)
    arrays: dict[str, np.ndarray] = {}
    for shard in dict.fromkeys(places.values()):
        _check_name(shard, index)
        for name, array in safetensors.load(index.parent / shard).items():
            if places.get(name) != shard:
                found = f"it in {places[name]}" if name in places else "no such name"
                raise FormatError(index, field=f"weight_map.{name}", expected=f"{shard}, which holds that array", found=found)
            arrays[name] = array
    for name, shard in places.items():
        if name not in arrays:
            raise FormatError(index.parent / shard, field=name, expected="an array of that name, as the index says", found="none")
    return arrays


def save(
    index: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], *, max_bytes: int,
    metadata: Mapping[str, str] | None = None, bfloat16: Collection[str] = (),
) -> None:  # fmt: skip
    """Write the arrays into shards of at most `max_bytes` beside the file `index` (an array larger than that is alone), it last.

    Shards of an earlier save that are no longer needed are removed afterwards. metadata, bfloat16: as in `safetensors.save`.
    """
    index, room = Path(index), max_bytes
    shards: list[list[str]] = [[]]
    for name, array in tensors.items():
        if array.nbytes > room and shards[-1]:
            shards.append([])
            room = max_bytes
        shards[-1].append(name)
        room -= array.nbytes
    stem = index.name.removesuffix(".safetensors" + SUFFIX)
    places: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        file = f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors"
        safetensors.save(index.parent / file, {name: tensors[name] for name in shard}, metadata=metadata, bfloat16=bfloat16)
        places |= dict.fromkeys(shard, file)
    content = {"metadata": {"total_size": sum(array.nbytes for array in tensors.values())}, "weight_map": places}
    atomic.write_file(index, strict_json.dump(content, indent=2))
    _remove_shards(index, keep=set(places.values()))


def remove(index: str | os.PathLike[str]) -> None:
    """Remove an index and its shards, if they are there."""
    if Path(index).exists():
        Path(index).unlink()
        _remove_shards(Path(index), keep=set())


def _remove_shards(index: Path, *, keep: set[str]) -> None:
    stem = index.name.removesuffix(".safetensors" + SUFFIX)
    for file in index.parent.glob(f"{stem}-*-of-*.safetensors"):
        if file.name not in keep:
            file.unlink()


def names(index: str | os.PathLike[str]) -> set[str]:
    """The names of all arrays that the index names."""
    return set(_places(Path(index)))


def _places(index: Path) -> dict[str, str]:
    return strict_json.read(index, schema=_INDEX)["weight_map"]


def _check_name(shard: Any, index: Path) -> None:
    """FormatError unless `shard` is a file in the index's own folder."""
    if Path(shard).name != shard or not shard.endswith(".safetensors") or "\\" in shard or "\0" in shard:
        raise FormatError(index, field="weight_map", expected="names of .safetensors files in its folder", found=shard)
    if not (index.parent / shard).is_file():
        raise FormatError(index, field="weight_map", expected=f"the file {shard} beside it", found="no such file")

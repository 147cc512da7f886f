"""Damaged files: each reader either reads them or refuses them with a ValueError (FormatError is one), never with anything else.

A campaign of thousands: PYTHONPATH=. python tests/hostile_files.py 3000; the suite runs a sample (test_hostile_files.py).
Two kinds of damage: to the bytes (flipped, cut, doubled, put in), which most parsers notice at once; and to the meaning, a
JSON value exchanged for another, a key dropped or renamed, which reaches what a reader does after parsing.
"""

import json
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.data.conversations.messages import read_conversations, read_prompts
from tinyllm.data.conversations.preferences import read_preferences
from tinyllm.labels.items import read_items
from tinyllm.labels.store import read_labels
from tinyllm.models import GPT, GPTConfig, load_adapters, load_tokenizer_for, save_adapters
from tinyllm.nn import add_lora
from tinyllm.storage import safetensors, sharded
from tinyllm.tokenizers import BPETokenizer, CharacterTokenizer, load_tokenizer

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**70,
    1.5,
    -0.0,
    "",
    "x",
    "gpt2",
    "\u0000",
    "\ud83d\ude00",
    [],
    {},
    [[]],
    [0],
    ["x"],
    {"a": 1},
]
TOKENIZER = BPETokenizer.train(["low lower lowest " * 9], vocab_size=266, special_tokens=["<|endoftext|>", "<|user|>"])
ITEM = {"id": "1", "prompt": [{"role": "user", "content": "Hi"}], "answers": ["a", "b"], "source": "s", "data": {}}
ITEM_TWO = {**ITEM, "id": "2"}
LABEL = {
    "item": "1",
    "fingerprint": "0" * 64,
    "labeler": "ann",
    "ratings": [7, 1],
    "order": [1, 0],
    "key": "k",
    "repetition": 0,
    "time": 1.5,
    "revision": 0,
}
LABEL |= dict.fromkeys(("toxic", "made_up", "not_following"), [False, True])


def small_model() -> GPT:
    """Two hundred and seventy tokens, one layer."""
    return GPT(GPTConfig(vocab_size=270, block_size=4, n_layers=1, n_heads=2, d_model=4), rng=np.random.default_rng(0))


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """The content with one to four places damaged."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            changed[at:at] = rng.choice([b"\0", b"{", b"]", b'"', b",", b"\\", b"9", b"-", b"\xff", b"\n", b"1e999", b"NaN"])
        elif kind == 2:
            del changed[at : at + rng.randint(1, 20)]
        elif kind == 3:
            changed[at:at] = changed[max(0, at - 30) : at]
        else:
            changed = changed[:at]
    return bytes(changed)


def damaged_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one of its inner values exchanged, dropped or renamed."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice(VALUES)
    if isinstance(value, list):
        i = rng.randrange(len(value))
        return [*value[:i], *([] if rng.random() < 0.2 else [damaged_value(value[i], rng)]), *value[i + 1 :]]
    key, kind = rng.choice(list(value)), rng.random()
    if kind < 0.15:
        return {k: v for k, v in value.items() if k != key}
    if kind < 0.25:
        return {(k + "_" if k == key else k): v for k, v in value.items()}
    return {k: (damaged_value(v, rng) if k == key else v) for k, v in value.items()}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The content damaged in one of the two ways; lines of JSON are values of their own."""
    if rng.random() < 0.4:
        return damaged_bytes(content, rng)
    try:
        return json.dumps(damaged_value(json.loads(content), rng)).encode()
    except ValueError:
        lines = content.split(b"\n")
        i = rng.randrange(len(lines))
        try:
            lines[i] = json.dumps(damaged_value(json.loads(lines[i]), rng)).encode()
        except ValueError:
            return damaged_bytes(content, rng)
        return b"\n".join(lines)


def damaged_header(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file with damage to the meaning of its header, its length corrected."""
    if rng.random() < 0.4:
        return damaged_bytes(content, rng)
    end = 8 + int.from_bytes(content[:8], "little")
    head = json.dumps(damaged_value(json.loads(content[8:end]), rng)).encode()
    return len(head).to_bytes(8, "little") + head + content[end:]


def _model_folder(folder: Path) -> None:
    small_model().save_pretrained(folder, TOKENIZER)


def _adapters(folder: Path) -> None:
    model = add_lora(small_model(), rank=2, alpha=4.0, rng=np.random.default_rng(1))
    save_adapters(model, folder)  # type: ignore[arg-type]


def _shards(folder: Path) -> None:
    safetensors.save(folder / "a.safetensors", {"x": np.zeros(3)})
    (folder / "i.json").write_text(json.dumps({"metadata": {}, "weight_map": {"x": "a.safetensors"}}))


def _two_files(folder: Path) -> None:
    content = TOKENIZER.to_json()["model"]
    (folder / "vocab.json").write_text(json.dumps(content["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(merge) for merge in content["merges"]))


def _lines(name: str, *records: dict[str, Any]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text("\n".join(map(json.dumps, records)), "utf-8") and None


TURNS = [{"role": "system", "content": "s"}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
CALL = [*TURNS[:2], {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "c", "arguments": '{"a": "1"}'}}]}]
RECORDS = (
    {"messages": TURNS, "tools": []},
    {"messages": [*CALL, {"role": "tool", "content": "2"}, TURNS[2]]},
    {"instruction": "a", "input": "b", "output": "c"},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"},
    {"prompt": "a", "completion": "b"},
)
PAIRS = ({"prompt": TURNS[:2], "chosen": TURNS[2:], "rejected": TURNS[2:]}, {"prompt": "a", "chosen": "b", "rejected": "c"})
CASES: dict[str, tuple[Callable[[Path], None], str, Callable[[Path], Any]]] = {  # name -> (make the folder, the file, read)
    "weights": (_model_folder, "model.safetensors", GPT.from_pretrained),
    "config": (_model_folder, "config.json", lambda f: (GPT.from_pretrained(f), load_tokenizer_for(f))),
    "generation": (_model_folder, "generation_config.json", load_tokenizer_for),
    "tokenizer settings": (_model_folder, "tokenizer_config.json", load_tokenizer_for),
    "tokenizer": (_model_folder, "tokenizer.json", lambda f: load_tokenizer(f).encode("low lowest é")),
    "characters": (
        lambda f: CharacterTokenizer("ab").save(f) and None,
        "tokenizer.json",
        lambda f: load_tokenizer(f).encode("a"),
    ),
    "vocabulary": (_two_files, "vocab.json", lambda f: load_tokenizer(f).encode("low")),
    "merges": (_two_files, "merges.txt", lambda f: load_tokenizer(f).encode("low")),
    "index": (_shards, "i.json", lambda f: sharded.load(f / "i.json")),
    "adapter settings": (_adapters, "adapter_config.json", lambda f: load_adapters(small_model(), f)),
    "adapters": (_adapters, "adapter_model.safetensors", lambda f: load_adapters(small_model(), f)),
    "conversations": (_lines("r.jsonl", *RECORDS), "r.jsonl", lambda f: read_conversations(f / "r.jsonl")),
    "prompts": (_lines("r.jsonl", *RECORDS), "r.jsonl", lambda f: read_prompts(f / "r.jsonl")),
    "preferences": (_lines("r.jsonl", *PAIRS), "r.jsonl", lambda f: read_preferences(f / "r.jsonl")),
    "items": (_lines("r.jsonl", ITEM, ITEM_TWO), "r.jsonl", lambda f: read_items(f / "r.jsonl")),
    "labels": (_lines("r.jsonl", LABEL, {**LABEL, "key": "l", "repetition": 1}), "r.jsonl", lambda f: read_labels(f / "r.jsonl")),
}


def failures(name: str, n: int, folder: Path, *, seed: int = 0) -> Iterator[str]:
    """Damage the file of one case `n` times; yields each error that is no ValueError, with the damage that led to it."""
    make, file, read = CASES[name]
    make(folder)
    path, rng = folder / file, random.Random(seed)
    content = path.read_bytes()
    read(folder)  # whole, it is read
    damage = damaged_header if file.endswith(".safetensors") else damaged
    for i in range(n):
        changed = damage(content, rng)
        path.unlink()  # the file before may be mapped still
        path.write_bytes(changed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                read(folder)
        except ValueError:
            pass
        except Exception as error:  # noqa: BLE001  that is what is looked for
            yield f"{name}, {i}: {type(error).__name__}: {error}: {changed[:2000]!r}"


def main(n: int) -> int:
    """Run all cases, show what was found; 1 if anything was."""
    found = 0
    for name in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            for text in failures(name, n, Path(temporary), seed=n):
                print(text[:1500])
                found += 1
        print(f"{name}: {n} files", flush=True)
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))

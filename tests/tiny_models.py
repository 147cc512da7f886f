"""A tiny text, a run trained on it once, and a way to see a command fail properly."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

from tinyllm.cli.main import main
from tinyllm.cli.terminal import Terminal
from tinyllm.models import GPT, GPTConfig
from tinyllm.recipes.tuning import load_for_chat
from tinyllm.storage import safetensors
from tinyllm.tokenizers import ByteTokenizer

TINY = (
    "--tokenizer character --block-size 16 --n-layers 1 --n-heads 2 --d-model 8 --batch-size 2 --warmup-steps 1 "
    "--eval-batches 1 --sample-tokens 8"
).split()


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """A small text with enough blank lines to hold some of it out."""
    path = tmp_path_factory.mktemp("text") / "numbers.txt"
    path.write_text("".join(f"The number after {i} is {i + 1}.\n\n" for i in range(200)))
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, text_file):
    """The folder of a finished run of four steps; do not write into it."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    words = ["--max-steps", "4", "--eval-interval", "2", "--checkpoint-interval", "2", *TINY]
    assert main(["train", "--data", str(text_file), "--out", str(out), *words]) == 0
    return out


@pytest.fixture
def run_copy(trained, tmp_path):
    """A copy of the finished run, to be spoiled."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def fails(capsys):
    """fails(words) runs the command, which must exit with 2 and a single line on stderr; returns that line."""

    def run(*words):
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("tinyllm: error: ")
        return lines[0].removeprefix("tinyllm: error: ")

    return run


@pytest.fixture(scope="session")
def byte_model(tmp_path_factory):
    """The folder of a base model that reads bytes, without control tokens: `byte_model(name, **config)` makes another."""

    def make(name, **config):
        folder = tmp_path_factory.getbasetemp() / "byte_models" / name
        if not folder.exists():
            shape = {"vocab_size": 257, "block_size": 192, "n_layers": 1, "n_heads": 2, "d_model": 8, **config}
            GPT(GPTConfig(**shape), rng=np.random.default_rng(0)).save_pretrained(folder, tokenizer=ByteTokenizer())
        return folder

    return make


@pytest.fixture(scope="session")
def base(byte_model):
    """A base model's folder; do not write into it."""
    return byte_model("base")


@pytest.fixture(scope="module")
def wide(byte_model):
    """(model, tokenizer), with room for a story."""
    return load_for_chat(str(byte_model("wide", block_size=512)), seed=1)


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory):
    """Twenty preferences of ten prompts."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    pairs = [{"prompt": f"What is {i % 10}?", "chosen": f"It is {i}.", "rejected": "No."} for i in range(20)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


@pytest.fixture(scope="session")
def prompts_file(tmp_path_factory):
    """Three prompts, one a line."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text("What is tea?\nWho are you?\nName a bird.\n")
    return path


@pytest.fixture(scope="session")
def judge(tmp_path_factory, base, pairs_file):
    """The folder of a reward model's run; do not write into it."""
    out = tmp_path_factory.mktemp("runs") / "judge"
    assert main(["reward", str(base), "--preferences", str(pairs_file), "--out", str(out)]) == 0
    return out


def stop_after(patch, step):
    """Let a SIGTERM come when the progress of this step has been shown."""
    show = Terminal.__call__

    def shown(self, event):
        show(self, event)
        record = getattr(event, "record", None)
        if getattr(record, "loss", None) is not None and record.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(Terminal, "__call__", shown)


@pytest.fixture
def resumed(tmp_path, monkeypatch, capsys):
    """resumed(words, after=n): runs words whole, and again with a SIGTERM after n steps and --resume; both run folders.

    The stopped run has written no model yet.
    """

    def run(*words, after):
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        words = [str(word) for word in words]
        assert main([*words, "--out", str(whole)]) == 0
        with monkeypatch.context() as patch:
            stop_after(patch, after)
            assert main([*words, "--out", str(cut)]) == 143
        assert not (cut / "model").exists() and [path.name for path in (cut / "checkpoints").iterdir()][-1].startswith("step-")
        assert main([*words, "--out", str(cut), "--resume"]) == 0
        return whole, cut

    return run


@pytest.fixture
def same_model():
    """same_model(one run, other run): whether their models are the same, bit by bit."""

    def compare(one, other):
        names = sorted(path.name for path in (one / "model").iterdir())
        settings = ["config.json", "generation_config.json", "tokenizer_config.json"]
        assert names == sorted([*settings, "model.safetensors", "tokenizer.json"])
        return all((one / "model" / name).read_bytes() == (other / "model" / name).read_bytes() for name in names)

    return compare


@pytest.fixture(scope="session")
def respoiled(tmp_path_factory, base):
    """respoiled(name, change, of=folder): a copy of a model's folder whose arrays went through `change`."""

    def make(name, change, *, of=base):
        folder = shutil.copytree(of, tmp_path_factory.mktemp("spoiled") / name)
        file = folder / "model.safetensors"
        metadata = safetensors.read_header(file).metadata
        arrays = {key: change(key, np.array(array)) for key, array in safetensors.load(file).items()}
        safetensors.save(file, arrays, metadata=metadata)
        return folder

    return make


@pytest.fixture(scope="session")
def broken(respoiled):
    """A model with weights that are not numbers."""
    return respoiled("broken", lambda name, array: array * np.float32("nan") if name.endswith("wte.weight") else array)


@pytest.fixture(scope="session")
def int8(respoiled):
    """A folder whose weights were rounded to whole numbers."""
    return respoiled("int8", lambda name, array: array.astype(np.int8))

"""A tiny text, a run trained on it once, and a way to see a command fail properly."""

import shutil

import pytest

from tinyllm.cli.main import main

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

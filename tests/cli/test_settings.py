"""Options and TOML keys made from dataclasses."""

import argparse
from dataclasses import dataclass
from typing import Literal

import pytest

from tinyllm.cli.parser import Parser, UsageError
from tinyllm.cli.settings import Group, add_options, read_groups
from tinyllm.storage.settings import comments_of, settings_of


@dataclass(frozen=True)
class Base:
    """Something."""

    n_layers: int = 12  # L, blocks; 50 % of "it"


@dataclass(frozen=True)
class Model(Base):
    """More."""

    width: float = 1.5  # how wide
    bias: bool = True  # with biases
    top_k: int | None = None  # at most
    name: str = ""  # what it is called
    betas: tuple[float, float] = (0.9, 0.99)  # two numbers
    stops: tuple[str, ...] = ()  # several texts
    # which of the two,
    # in words
    kind: Literal["gpt", "llama"] = "gpt"

    def __post_init__(self):
        if self.n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, got {self.n_layers}")


@dataclass(frozen=True)
class Training:
    max_steps: int = 10  # steps
    tokenizer: str = "bpe"  # which


GROUPS = [Group("model", Model(n_layers=4), flags={"stops": "stop"}), Group("training", Training(), without=("tokenizer",))]


def read(*words, groups=GROUPS):
    parser = Parser(prog="test")
    add_options(parser, groups)
    return read_groups(groups, parser.parse_args([str(word) for word in words]))


def read_file(tmp_path, content, *words):
    path = tmp_path / "settings.toml"
    path.write_text(content)
    return read("--config", path, *words)


def test_comments_become_help_of_base_and_derived_fields():
    assert comments_of(Model)["kind"] == "which of the two, in words"
    helps = {one.name: one.help for one in settings_of(Model)}
    assert helps["n_layers"] == 'L, blocks; 50 % of "it"'
    assert helps["width"] == "how wide"


def test_help_shows_kebab_flags_comments_and_the_verbs_defaults(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    parser = Parser(prog="test")
    add_options(parser, GROUPS)
    shown = parser.format_help()
    assert '--n-layers N        L, blocks; 50 % of "it" (default: 4)' in shown
    assert "--bias, --no-bias   with biases (default: yes)" in shown
    assert "--betas X X         two numbers (default: 0.9 0.99)" in shown
    assert "--top-k N           at most\n" in shown
    assert "--kind {gpt,llama}" in shown
    assert "--tokenizer" not in shown


def test_without_options_the_defaults_stand():
    assert read() == {"model": Model(n_layers=4), "training": Training()}


def test_flags_of_every_kind():
    words = "--n-layers 2 --width 3 --no-bias --top-k none --name x --betas 0.5 0.6 --stop a --stop b --kind llama"
    found = read(*words.split(), "--max-steps", "1_000")
    model = Model(2, 3.0, False, None, "x", (0.5, 0.6), ("a", "b"), "llama")
    assert found == {"model": model, "training": Training(max_steps=1000)}


def test_flags_come_before_the_file_and_the_file_before_defaults(tmp_path):
    content = 'width = 2\nmax_steps = 7\n[model]\nn_layers = 3\nstops = ["a"]\nbetas = [0, 1.0]\n'
    found = read_file(tmp_path, content, "--n-layers", 5)
    assert found == {"model": Model(5, 2.0, stops=("a",), betas=(0.0, 1.0)), "training": Training(7)}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("n_layer = 3", "unknown key n_layer; did you mean n_layers?"),
        ("[model]\nn-layers = 3", "unknown key model.n-layers; did you mean n_layers?"),
        ("[modle]\nn_layers = 3", "unknown key modle; did you mean model?"),
        ("zzz = 3", "unknown key zzz; known keys: model, n_layers, width, "),
        ("tokenizer = 'x'", "unknown key tokenizer"),
        ("n_layers = '3'", "n_layers: got '3', expected a whole number"),
        ("n_layers = 3.0", "n_layers: got 3.0, expected a whole number"),
        ("n_layers = true", "n_layers: got True, expected a whole number"),
        ("bias = 1", "bias: got 1, expected true or false"),
        ("betas = [1]", "betas: got [1], expected a list of 2 values"),
        ("stops = 'a'", "stops: got 'a', expected a list, each text"),
        ("kind = 'gtp'", "kind: got 'gtp', expected one of gpt, llama (did you mean 'gpt'?)"),
        ("n_layers = ", "is not a TOML file"),
        ("a = " + "[" * 5000, "is not a TOML file"),
        ("model = 3", "model: got 3, expected a table: [model], and its settings below it"),
        ("n_layers = 2\n[model]\nn_layers = 3", "n_layers stands both above the tables and in [model]; keep one"),
        ("n_layers = 0", "n_layers must be at least 1, got 0"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, content, fault):
    with pytest.raises(ValueError) as error:
        read_file(tmp_path, content)
    assert fault in str(error.value)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "settings.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not a TOML file"):
        read("--config", tmp_path / "settings.toml")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--n-layers 1.5", "--n-layers: got '1.5', expected a whole number"),
        ("--width wide", "--width: got 'wide', expected a number"),
        ("--top-k few", "--top-k: got 'few', expected a whole number or 'none'"),
        ("--kind gtp", "--kind: got 'gtp', expected one of gpt, llama (did you mean 'gpt'?)"),
        ("--n-layers 0", "n_layers must be at least 1, got 0"),
        ("--widht 3", "unknown option --widht; did you mean --width?"),
        ("--n-layers", "argument --n-layers: expected one argument"),
    ],
)
def test_a_bad_flag_is_refused_by_name(words, fault):
    with pytest.raises(ValueError) as error:
        read(*words.split())
    assert fault in str(error.value)


def test_saved_settings_become_defaults():
    saved = {"n_layers": 9, "stops": ["x"], "top_k": None, "forgotten": 1}
    group = GROUPS[0].with_saved(saved, where="config.json")
    assert read("--width", 2, groups=[group])["model"] == Model(9, 2.0, stops=("x",))
    with pytest.raises(ValueError, match="config.json: n_layers: got 'x'"):
        GROUPS[0].with_saved({"n_layers": "x"}, where="config.json")


def test_a_field_that_no_flag_can_hold_is_a_fault_of_the_programmer():
    @dataclass
    class Odd:
        table: dict | None = None

    with pytest.raises(TypeError, match="table"):
        settings_of(Odd)


def test_options_are_filled_in_only_when_needed():
    calls = []
    parser = Parser(prog="test")
    verbs = parser.add_subparsers(dest="verb")
    for name in ("a", "b"):
        verbs.add_parser(name).later(lambda name=name: calls.append(name))
    parser.format_help()
    assert calls == []
    parser.parse_args(["b"])
    parser.parse_args(["b"])
    assert calls == ["b"]


def test_the_parser_raises_instead_of_exiting():
    parser = Parser(prog="test")
    parser.add_argument("--out", required=True)
    with pytest.raises(UsageError, match=r"required: --out \(see test --help\)"):
        parser.parse_args([])
    assert isinstance(parser, argparse.ArgumentParser)


def test_files_may_stand_before_between_and_after_options():
    parser = Parser(prog="test")
    parser.add_argument("model", nargs="?")
    parser.add_argument("files", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--out", required=True)
    for words in ("m a b --out x", "--out x m a b", "m --out x a b", "m a --out=x b"):
        args = parser.parse_args(words.split())
        assert (args.model, args.files, args.out) == ("m", ["a", "b"], "x"), words
    assert parser.parse_args(["--out", "x"]).files == []
    assert parser.parse_args(["--out", "x", "m", "--", "--odd"]).files == ["--odd"]
    assert parser.format_usage() == "usage: test [MODEL] [FILE ...] --out OUT [options]\n"


def test_only_what_must_be_given_is_missed():
    parser = Parser(prog="test")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("files", nargs="*", default=[], metavar="FILE")
    with pytest.raises(UsageError, match=r"required: MODEL \(see"):
        parser.parse_args([])

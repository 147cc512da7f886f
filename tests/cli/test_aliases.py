"""nanoGPT's and Hugging Face's names of flags."""

import argparse

import pytest

from tinyllm.cli.aliases import ALIASES, FAR, translate
from tinyllm.cli.main import VERBS, build_parser, main


def parsers():
    parser = build_parser()
    verbs = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    for verb in verbs.values():
        verb._fill()
    return verbs


def test_every_alias_stands_for_an_option_of_some_verb_and_is_no_option_itself():
    verbs = parsers()
    assert set(verbs) == set(VERBS)
    options = {option for verb in verbs.values() for option in verb._option_string_actions}
    assert {ours for ours in ALIASES.values() if ours not in options} == set()
    # rl's --epochs is how often PPO learns from a round, another thing than an alias could mean
    assert {alias for alias in ALIASES if alias in options} == set()


def test_words_are_replaced_where_the_verb_knows_the_option():
    known = {"--n-layers", "--max-steps", "--stop"}
    assert translate(["--n_layer=6", "--max-iters", "20", "--max_steps=3"], known) == [
        "--n-layers=6", "--max-steps", "20", "--max-steps=3",
    ]  # fmt: skip
    assert translate(["--lr", "--stop", "--", "-x", "n_layer", "--stop=--n_layer=1"], known) == [
        "--lr", "--stop", "--", "-x", "n_layer", "--stop=--n_layer=1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("--n_layer=2 --n_head=1 --n_embd=8 --max_iters=3 --lr 0.1", "--n-layers 2 --n-heads 1 --d-model 8 --max-steps 3 "
         "--learning-rate 0.1"),
        ("--per_device_train_batch_size 3 --gradient_accumulation_steps 2 --adam_beta2 0.9 --output_dir x",
         "--batch-size 3 --gradient-accumulation 2 --beta2 0.9 --out x"),
    ],
)  # fmt: skip
def test_a_training_reads_them_as_its_own(theirs, ours):
    parser = build_parser()
    rest = [] if "--out" in ours else ["--out", "y"]
    assert parser.parse_args(["train", *theirs.split(), *rest]) == parser.parse_args(["train", *ours.split(), *rest])


def test_the_help_of_a_verb_names_those_it_understands_and_no_others(capsys):
    assert main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    line = shown[shown.index("Names of nanoGPT and Hugging Face are understood too, with - or _:") :]
    assert "--n-layer " in line and "--max-iters" in line and "--lora-r" not in line and "--num-beams" not in line


def test_what_has_no_exact_counterpart_says_what_to_give(fails):
    assert fails("train", "--out", "x", "--num_train_epochs", "3").endswith("counted in steps: give --max-steps")
    assert "--threads says on how many cores" in fails("train", "--out", "x", "--device=cpu")
    assert "give the files as arguments" in fails("train", "--out", "x", "--dataset", "shakespeare")
    assert {name for name in FAR if name in ALIASES} == set()

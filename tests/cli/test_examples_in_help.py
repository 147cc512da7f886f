"""Every example in a verb's --help is a command line that the verb understands."""

import argparse
import re
import shlex

import pytest

from tinyllm.cli.main import build_parser


def verbs(parser):
    """(parser, its name) of each verb and of the verbs below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield verb
                yield from verbs(verb)


def examples():
    """Every line with a command, continued lines joined; what a shell adds around it (a pipe, a comment) taken off."""
    found = []
    for verb in [build_parser(), *verbs(build_parser())]:
        for line in (verb.epilog or "").replace("\\\n", " ").splitlines():
            if "--help" not in line and (command := re.search(r"\btinyllm (.*)", line) if line.startswith("  ") else None):
                found.append(re.split(r" {2,}| \| | < ", command[1].strip())[0])
    return sorted(set(found))


def test_there_is_an_example_for_each_verb():
    named = {line.split()[0] for line in examples()}
    assert {"train", "finetune", "reward", "dpo", "rl", "generate", "evaluate", "tokenizer", "chat"} <= named


@pytest.mark.parametrize("line", examples())
def test_an_example_is_understood(line):
    args = build_parser().parse_args(shlex.split(line))
    assert args.verb == line.split()[0]

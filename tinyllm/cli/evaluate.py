"""`tinyllm evaluate`: how well a model predicts a text, and how many questions it answers right, with standard errors.

A text is measured in nats a token (the loss), as a perplexity (as unsure as among so many equally likely tokens), and in bits a
byte, which can be compared between models with different tokenizers. A .jsonl file with "prompt" and "answer" is a test: right is
the answer letter by letter, and the model always writes its likeliest token. Without a file it is what the run held out (of
conversations: what the assistant says in them), or else the tenth of Python's language reference that `tinyllm train` holds out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.evaluation import ExactMatch, Perplexity

EPILOG = """examples:
  tinyllm evaluate runs/mine                           on what it held out
  tinyllm evaluate runs/mine novel.txt notes/
  tinyllm evaluate runs/chat questions.jsonl --json
"""
BUILT_IN = "python:reference"


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("evaluate", help="loss, perplexity, right answers", description=lesson(__doc__), epilog=EPILOG)
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder of a model, or of a run")
    add(
        "files",
        nargs="*",
        default=[],
        metavar="FILE",
        help="texts, as train reads them, or tests (.jsonl with prompt and answer)",
    )
    add("--json", action="store_true", help="print one JSON object, for programs")
    add("--max-windows", type=int, metavar="N", help="so many windows of each text at most, evenly spread (default: all)")
    add("--max-new-tokens", type=int, default=64, metavar="N", help="longest answer to a question (default: 64)")
    add("--batch-size", type=int, default=16, metavar="N", help="windows or questions at once (default: 16)")


@dataclass(frozen=True)
class Setup:
    """What is measured, and how."""

    model: Any
    tokenizer: Any
    batch_size: int
    max_windows: int | None
    max_new_tokens: int


def run(args: argparse.Namespace) -> int:
    """Measure, and print it."""
    from tinyllm.cli.generate import load

    for name in ("batch_size", "max_windows", "max_new_tokens"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; expected at least 1")
    model, tokenizer = load(args.model)
    setup = Setup(model, tokenizer, args.batch_size, args.max_windows, args.max_new_tokens)
    report: dict[str, Any] = {"model": args.model, "parameters": model.num_parameters(), "texts": [], "tests": []}
    for file in args.files:
        kind, result = measure_file(setup, os.path.expanduser(file))
        report[kind].append(result)
    if not args.files:
        report["texts"].append(measure_held_out(setup, args.model))
    print(json.dumps(report, indent=2, allow_nan=False) if args.json else "\n".join(lines(report)))
    return 0


def measure_file(setup: Setup, file: str) -> tuple[str, dict[str, Any]]:
    """("tests" or "texts", what was measured on a file)."""
    from tinyllm.evaluation.task_file import holds_questions

    if holds_questions(file):
        return "tests", measure_test(setup, file)
    return "texts", measure_ids(setup, file, encode(setup.tokenizer, file))


def measure_held_out(setup: Setup, path: str) -> dict[str, Any]:
    """What the run of a model held out, or the built-in text where no run is known."""
    from tinyllm.data import open_shard
    from tinyllm.recipes.pretrain import DataConfig, read_texts, saved_settings
    from tinyllm.training import find_model, run_of

    run_folder = run_of(find_model(path))
    if run_folder and (file := run_folder / "data" / "validation.bin").is_file():
        name = f"the text that {run_folder} held out"
        return measure_ids(setup, name, open_shard(file, tokenizer=setup.tokenizer).tokens)
    if run_folder and "finetuning" in (saved := saved_settings(run_folder)):
        batches = held_out_conversations(setup, saved, where=run_folder / "config.json")
        return measure_batches(setup, f"the assistant's words in the conversations that {run_folder} held out", batches)
    held_out = read_texts(DataConfig(data=(BUILT_IN,))).validation
    documents = [document for part in held_out.values() for document in part]
    return measure_ids(setup, "a held-out tenth of Python's language reference (built in)", join(setup.tokenizer, documents))


def held_out_conversations(setup: Setup, saved: dict[str, Any], *, where: Path) -> list[Any]:
    """The batches of conversations that a run of `finetune` held out, found again from its settings."""
    from tinyllm.cli import finetune
    from tinyllm.data import conversation_batches

    groups = [group.with_saved(saved.get(group.name, {}), where=str(where)) for group in finetune.groups()]
    settings = {group.name: group.cls(**group.defaults) for group in groups}
    block_size = setup.model.config.block_size
    with contextlib.redirect_stdout(sys.stderr):  # what it says of the files is no part of the result
        found = finetune.read_demonstrations(
            saved.get("inputs", {}).get("data") or [], settings, tokenizer=setup.tokenizer, block_size=block_size
        )
    return conversation_batches(found.held_out, batch_size=setup.batch_size, block_size=block_size)[: setup.max_windows]


def encode(tokenizer: Any, where: str) -> Any:
    """The ids of all documents in a file, a folder, or whatever else `train` reads; says what was not read."""
    from tinyllm.data import read_corpus
    from tinyllm.recipes.pretrain import end_of_text_marks

    sources = read_corpus(where, end_of_text=end_of_text_marks(tokenizer))
    for line in (line for source in sources for line in (*source.notes, *source.skipped)):
        print(line, file=sys.stderr)
    return join(tokenizer, [document for source in sources for document in source.documents])


def join(tokenizer: Any, documents: list[bytes]) -> Any:
    """The documents' ids as one array, the end-of-text id after each if there is one: as `data/text/shards.py` writes them."""
    import numpy as np

    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    return np.array([i for document in documents for i in [*tokenizer.encode(document), *end]], dtype=np.int64)


def measure_ids(setup: Setup, name: str, ids: Any) -> dict[str, Any]:
    """Loss, perplexity and bits a byte on a text. ValueError for one shorter than a window."""
    from tinyllm.data import EvaluationWindows

    block_size = min(setup.model.config.block_size, max(len(ids) - 1, 1))  # a short text is one window
    window = {"batch_size": setup.batch_size, "block_size": block_size, "max_windows": setup.max_windows}
    try:
        windows = EvaluationWindows(ids, **window)
    except ValueError as error:
        raise ValueError(f"{name} is too short to be measured: {error}") from None
    return measure_batches(setup, name, windows)


def measure_batches(setup: Setup, name: str, batches: Any) -> dict[str, Any]:
    """Loss, perplexity and bits a byte over the tokens of `batches` that count."""
    from tinyllm.evaluation import measure_perplexity, token_lengths

    found: Perplexity = measure_perplexity(setup.model, batches, bytes_per_token=token_lengths(setup.tokenizer))
    values = {
        "loss": found.nats,
        "loss_standard_error": found.standard_error,
        "perplexity": found.perplexity,
        "perplexity_standard_error": found.perplexity_standard_error,
        "bits_per_byte": found.bits_per_byte,
    }
    finite = {key: value if value is not None and math.isfinite(value) else None for key, value in values.items()}
    return {"name": name, "n_tokens": found.n_tokens, "n_windows": found.n_windows, **finite}


def measure_test(setup: Setup, file: str) -> dict[str, Any]:
    """The share of right answers to the questions of a file; what is none, or has no room in the context, is counted."""
    from tinyllm.evaluation import measure_exact_match
    from tinyllm.evaluation.task_file import read_tasks
    from tinyllm.tokenizers.chat import chat_format

    asked, reading = read_tasks(file)
    if reading.says_something:
        print(reading, file=sys.stderr)
    chat = chat_format(setup.tokenizer)
    fitting = [one for one in asked if len(chat.prompt(one.prompt)) < setup.model.config.block_size]
    if not fitting:
        raise ValueError(
            f"{file}: no question leaves room for an answer in the context of {setup.model.config.block_size} tokens"
        )
    how: dict[str, Any] = {"max_new_tokens": setup.max_new_tokens, "batch_size": setup.batch_size}
    found = measure_exact_match(setup.model, fitting, chat=chat, **how)
    whole = _match(found.pop("all"))
    tasks = {task: _match(result) for task, result in found.items()} if len(found) > 1 else {}
    return {"name": file, **whole, "n_left_out": len(asked) - len(fitting), "n_skipped": reading.n_skipped, "tasks": tasks}


def _match(found: ExactMatch) -> dict[str, Any]:
    return {"right": found.n_right, "n": found.n, "exact_match": found.accuracy, "standard_error": found.standard_error}


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report for a reader."""
    yield f"{report['model']}: {report['parameters']:,} parameters"
    for text in report["texts"]:
        yield f"\n{text['name']}: {text['n_tokens']:,} tokens in {text['n_windows']:,} windows"
        yield f"  loss           {_number(text['loss'])} ± {_number(text['loss_standard_error'])} nats a token"
        yield f"  perplexity     {_number(text['perplexity'])} ± {_number(text['perplexity_standard_error'])}"
        yield f"  bits per byte  {_number(text['bits_per_byte'])}"
    for test in report["tests"]:
        left_out = f"; {test['n_left_out']:,} left out, too long for the context" if test["n_left_out"] else ""
        yield f"\n{test['name']}: {_share(test)}{left_out}"
        yield from (f"  {task:<14} {_share(found)}" for task, found in test["tasks"].items())


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _share(found: dict[str, Any]) -> str:
    error = f"{found['exact_match']:.1%} ± {found['standard_error']:.1%}"
    return f"{error} right ({found['right']:,} of {found['n']:,})"

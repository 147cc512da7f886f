"""How good is a model? Its loss on texts, and the share of questions that it answers right, with standard errors.

    report = evaluate("runs/mine", ["novel.txt", "questions.jsonl"])
    report["texts"][0]["perplexity"], report["tests"][0]["exact_match"]

A text is measured in nats a token (the loss), as a perplexity (as unsure as among so many equally likely tokens), and in bits a
byte, which can be compared between models with different tokenizers. Of a test right is the answer letter by letter, and the
model always writes its likeliest token.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.data import Batch, EvaluationWindows, conversation_batches, open_shard, read_corpus
from tinyllm.evaluation import ExactMatch, measure_exact_match, measure_perplexity, token_lengths
from tinyllm.evaluation.task_file import holds_questions, read_tasks
from tinyllm.models.contract import LanguageModel
from tinyllm.recipes.events import Event, Said, Show, silent
from tinyllm.recipes.finetune import FinetuneConfig, FinetuneSettings, demonstrations_of
from tinyllm.recipes.loading import load_writer
from tinyllm.recipes.runs import saved_settings
from tinyllm.recipes.texts import DataConfig, end_of_text_marks, read_texts
from tinyllm.recipes.tuning import ReadingConfig
from tinyllm.storage.fields import check_whole
from tinyllm.storage.settings import from_json
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat_templates import chat_format
from tinyllm.training import TrainConfig, find_model, run_of

BUILT_IN = "python:reference"


@dataclass(frozen=True)
class EvaluateConfig:
    """How much is measured, and how much at once."""

    max_windows: int | None = None  # so many windows of each text at most, evenly spread (default: all)
    max_new_tokens: int = 64  # longest answer to a question
    batch_size: int = 16  # windows or questions at once

    def __post_init__(self) -> None:
        check_whole(self, "batch_size", "max_new_tokens", low=1)
        check_whole(self, "max_windows", low=1, optional=True)


@dataclass(frozen=True)
class Setup:
    """What is measured, and how."""

    model: LanguageModel
    tokenizer: Tokenizer
    config: EvaluateConfig
    show: Show

    def aside(self, event: Event) -> None:
        """Show what is no part of the result."""
        self.show(replace(event, aside=True) if isinstance(event, Said) else event)


def evaluate(
    model: str | Path, files: Sequence[str] = (), *, config: EvaluateConfig | None = None, show: Show = silent
) -> dict[str, Any]:
    """Measure a model on files: texts, as pretrain reads them, or tests (.jsonl with "prompt" and "answer").

    Without a file it is what the model's run held out (of conversations: what the assistant says in them), or else the tenth of
    Python's language reference that `pretrain` holds out. The result can be written as JSON: "model", "parameters", "texts" and
    "tests", each a list of what was measured on one of them.
    """
    policy, tokenizer = load_writer(model, show=show)
    setup = Setup(policy, tokenizer, config or EvaluateConfig(), show)
    report: dict[str, Any] = {"model": str(model), "parameters": policy.num_parameters(), "texts": [], "tests": []}
    for file in files:
        kind, result = measure_file(setup, os.path.expanduser(file))
        report[kind].append(result)
    if not files:
        report["texts"].append(measure_held_out(setup, model))
    return report


def measure_file(setup: Setup, file: str) -> tuple[str, dict[str, Any]]:
    """("tests" or "texts", what was measured on a file)."""
    if holds_questions(file):
        return "tests", measure_test(setup, file)
    return "texts", measure_ids(setup, file, encode(setup, file))


def measure_held_out(setup: Setup, path: str | Path) -> dict[str, Any]:
    """What the run of a model held out, or the built-in text where no run is known."""
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


def held_out_conversations(setup: Setup, saved: Mapping[str, Any], *, where: Path) -> list[Batch]:
    """The batches of conversations that a run of `finetune` held out, found again from its settings."""
    settings = FinetuneSettings(
        finetuning=from_json(FinetuneConfig, saved["finetuning"], where=str(where)),
        reading=from_json(ReadingConfig, saved.get("reading", {}), where=str(where)),
        training=from_json(TrainConfig, saved.get("training", {}), where=str(where)),
    )
    files, block_size = saved.get("inputs", {}).get("data") or [], setup.model.config.block_size
    found = demonstrations_of(files, settings, setup.tokenizer, block_size=block_size, show=setup.aside)
    batches = conversation_batches(found.held_out, batch_size=setup.config.batch_size, block_size=block_size)
    return batches[: setup.config.max_windows]


def encode(setup: Setup, where: str) -> np.ndarray:
    """The ids of all documents in a file, a folder, or whatever else `train` reads; says what was not read."""
    sources = read_corpus(where, end_of_text=end_of_text_marks(setup.tokenizer))
    for line in (line for source in sources for line in (*source.notes, *source.skipped)):
        setup.aside(Said(line))
    return join(setup.tokenizer, [document for source in sources for document in source.documents])


def join(tokenizer: Tokenizer, documents: list[bytes]) -> np.ndarray:
    """The documents' ids as one array, the end-of-text id after each if there is one: as `data/text/shards.py` writes them."""
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    return np.array([i for document in documents for i in [*tokenizer.encode(document), *end]], dtype=np.int64)


def measure_ids(setup: Setup, name: str, ids: np.ndarray) -> dict[str, Any]:
    """Loss, perplexity and bits a byte on a text. ValueError for one shorter than a window."""
    block_size = min(setup.model.config.block_size, max(len(ids) - 1, 1))  # a short text is one window
    config = setup.config
    try:
        windows = EvaluationWindows(ids, batch_size=config.batch_size, block_size=block_size, max_windows=config.max_windows)
    except ValueError as error:
        raise ValueError(f"{name} is too short to be measured: {error}") from None
    return measure_batches(setup, name, windows)


def measure_batches(setup: Setup, name: str, batches: Iterable[Batch]) -> dict[str, Any]:
    """Loss, perplexity and bits a byte over the tokens of `batches` that count."""
    found = measure_perplexity(setup.model, batches, bytes_per_token=token_lengths(setup.tokenizer))
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
    """The share of right answers to the questions of a file; what is no question, or has no room in the context, is counted."""
    asked, reading = read_tasks(file)
    if reading.says_something:
        setup.aside(Said(str(reading)))
    chat = chat_format(setup.tokenizer)
    fitting = [one for one in asked if len(chat.prompt(one.prompt)) < setup.model.config.block_size]
    if not fitting:
        raise ValueError(
            f"{file}: no question leaves room for an answer in the context of {setup.model.config.block_size} tokens"
        )
    found = measure_exact_match(
        setup.model, fitting, chat=chat, max_new_tokens=setup.config.max_new_tokens, batch_size=setup.config.batch_size
    )
    whole = _match(found.pop("all"))
    tasks = {task: _match(result) for task, result in found.items()} if len(found) > 1 else {}
    return {"name": file, **whole, "n_left_out": len(asked) - len(fitting), "n_skipped": reading.n_skipped, "tasks": tasks}


def _match(found: ExactMatch) -> dict[str, Any]:
    return {"right": found.n_right, "n": found.n, "exact_match": found.accuracy, "standard_error": found.standard_error}

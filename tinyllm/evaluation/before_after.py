"""What training changed, in words: answers to the same prompts before and after, one JSON object a line.

    {"prompt": "...", "before": "...", "after": "...",
     "score_before": 0.1, "score_after": 1.4, "gold_before": null, "gold_after": null}        on one line

Curves say that a number rose; only reading says what it rose for. The file is comparisons.jsonl in the run folder, and the
report of the run shows it. Sample both answers with the same settings, from prompts that were not trained on.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.evaluation.exact_match import next_messages
from tinyllm.models.contract import LanguageModel
from tinyllm.nn import evaluating
from tinyllm.storage.json_lines import read_lines, write_lines
from tinyllm.tokenizers.chat_templates import Chat

FILE_NAME = "comparisons.jsonl"
_TEXTS = ("prompt", "before", "after")
_NUMBERS = ("score_before", "score_after", "gold_before", "gold_after")


@dataclass(frozen=True)
class BeforeAfter:
    """One prompt, the answer of the policy before training and the one after; what they were worth, where it is known."""

    prompt: str
    before: str
    after: str
    score_before: float | None = None  # the reward that was trained on
    score_after: float | None = None
    gold_before: float | None = None  # the truth that the reward stands for
    gold_after: float | None = None

    def gain(self, name: str) -> float | None:
        """Change of "score" or "gold", None where one of the two numbers is missing."""
        before, after = getattr(self, f"{name}_before"), getattr(self, f"{name}_after")
        return None if before is None or after is None else after - before


def answers_in_words(
    model: LanguageModel, prompts: Sequence[Sequence[int]], *, chat: Chat, max_new_tokens: int = 64
) -> list[tuple[str, str]]:
    """(prompt, the model's greedy answer) of prompts of ids, in words; those that fill the context are left out.

    chat: the tokenizers.ChatFormat that wrote the prompts. Ask once before training and once after: `paired` joins the two.
    """
    fitting = {i: list(prompt) for i, prompt in enumerate(prompts) if len(prompt) < model.config.block_size}
    with evaluating(model):
        said = next_messages(model, fitting, chat=chat, max_new_tokens=max_new_tokens) if fitting else {}
    return [(chat.decode(fitting[i]), said[i]["content"]) for i in sorted(said)]


def paired(before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]) -> list[BeforeAfter]:
    """The answers of `answers_in_words` before and after training, as one comparison a prompt."""
    return [BeforeAfter(prompt, old, new) for (prompt, old), (_, new) in zip(before, after, strict=True)]


def write_comparisons(run_folder: str | os.PathLike[str], pairs: Iterable[BeforeAfter]) -> Path:
    """Write `run_folder`/comparisons.jsonl, whole or not at all, in place of what was there; returns its path.

    ValueError for a score that is not a finite number.
    """
    path = Path(run_folder) / FILE_NAME
    write_lines(path, map(_plain, pairs))
    return path


def read_comparisons(run_folder: str | os.PathLike[str]) -> tuple[list[BeforeAfter], int]:
    """The comparisons of a run in their order, and the number of lines that are none; ([], 0) without a file.

    A report reads with patience: a number that is missing, or is no finite number, counts as not known.
    """
    pairs = [_comparison(line.value) for line in read_lines(Path(run_folder) / FILE_NAME)]
    found = [pair for pair in pairs if pair is not None]
    return found, len(pairs) - len(found)


def _plain(pair: BeforeAfter) -> dict[str, Any]:
    texts = {name: _encodable(getattr(pair, name)) for name in _TEXTS}
    numbers = {name: None if (value := getattr(pair, name)) is None else float(value) for name in _NUMBERS}
    return texts | numbers


def _encodable(text: str) -> str:
    """Half of a surrogate pair, which UTF-8 has no bytes for, as a question mark."""
    return text.encode("utf-8", errors="replace").decode()


def _comparison(value: Any) -> BeforeAfter | None:
    """The comparison that a line holds, None if it holds something else."""
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in _TEXTS):
        return None
    numbers = {name: float(value[name]) for name in _NUMBERS if _is_number(value.get(name))}
    return BeforeAfter(value["prompt"], value["before"], value["after"], **numbers)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300

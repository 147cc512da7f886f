"""What a tuned model answers where it knows no answer by heart: held-out questions, its answers, and those it should give.

A loss on held-out conversations says how surprised the model is by the right words; whether it says them itself is another
question. Here it does: greedily, from the conversation up to its last answer. An answer counts as right only if it is the
demonstration's, word for word, which is fair where one answer is right, and too strict where many are. They are kept in
answers.json of the run, and shown in its report.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyllm.evaluation.exact_match import ExactMatch, next_messages
from tinyllm.models.contract import LanguageModel
from tinyllm.nn import evaluating
from tinyllm.storage import FormatError, strict_json, write_file
from tinyllm.tokenizers.chat import ChatFormat

FILE_NAME = "answers.json"
MOST_ASKED = 200  # of the held-out conversations
MOST_KEPT = 24  # of the answers, evenly spread
_BATCH = 64

Encoded = tuple[Sequence[int], Sequence[bool]]  # a conversation's ids, and for each whether the assistant says it


@dataclass(frozen=True)
class Answered:
    """One question as the user asked it last, what the demonstration answers, and what the model does."""

    question: str
    expected: str
    answer: str

    @property
    def right(self) -> bool:
        return self.answer == self.expected


def answer_held_out(
    model: LanguageModel, conversations: Sequence[Encoded], *, chat: ChatFormat, max_new_tokens: int = 64
) -> list[Answered]:
    """The model's greedy answers to the first MOST_ASKED conversations, each from the ids before its last answer.

    chat: a tokenizers.ChatFormat, which encoded the conversations
    """
    asked = [split for ids, said in conversations[:MOST_ASKED] if (split := _split(ids, said))]
    prompts = {i: prompt for i, (prompt, _) in enumerate(asked) if len(prompt) < model.config.block_size}
    order = sorted(prompts, key=lambda i: len(prompts[i]))
    found: dict[int, dict[str, str]] = {}
    with evaluating(model):
        for first in range(0, len(order), _BATCH):
            batch = {i: prompts[i] for i in order[first : first + _BATCH]}
            found |= next_messages(model, batch, chat=chat, max_new_tokens=max_new_tokens)
    return [
        Answered(_question(prompts[i], chat), _words(chat.parse(asked[i][1])), _words(found[i]))
        for i in sorted(found)
    ]  # fmt: skip


def _split(ids: Sequence[int], said: Sequence[bool]) -> tuple[list[int], list[int]] | None:
    """(what stands before the last answer, the last answer); None where the assistant says nothing."""
    last = max((i for i, own in enumerate(said) if own), default=None)
    if last is None:
        return None
    first = last
    while first and said[first - 1]:
        first -= 1
    return list(ids[:first]), list(ids[first : last + 1])


def _question(prompt: Sequence[int], chat: ChatFormat) -> str:
    """The last thing that was said before the answer, by the user or the tool."""
    starts = [i for i, token in enumerate(prompt[:-1]) if token in (chat.role_ids["user"], chat.role_ids["tool"])]
    return chat.decode(prompt[starts[-1] + 1 if starts else 0 :])


def _words(message: dict[str, str]) -> str:
    call = f"[calculator: {message['tool_call']}]" if "tool_call" in message else ""
    return " ".join(filter(None, (message["content"], call)))


def write_answers(run_folder: str | os.PathLike[str], answered: Sequence[Answered]) -> Path:
    """Write `run_folder`/answers.json: how many were asked and right, and some of them; returns its path."""
    stride = max(1, len(answered) // MOST_KEPT)
    kept = [
        {name: text.encode("utf-8", "replace").decode() for name, text in asdict(one).items()}
        for one in answered[::stride][:MOST_KEPT]
    ]
    path = Path(run_folder) / FILE_NAME
    counts = {"n": len(answered), "n_right": sum(one.right for one in answered)}
    write_file(path, strict_json.dump({**counts, "answers": kept}, indent=1))
    return path


def read_answers(run_folder: str | os.PathLike[str]) -> tuple[ExactMatch | None, list[Answered]]:
    """(share of right answers, some of the answers) of a run; (None, []) where none, or no readable ones, were kept."""
    path = Path(run_folder) / FILE_NAME
    schema: dict[str, Any] = {"n": int, "n_right": int, "answers": [{"question": str, "expected": str, "answer": str}]}
    try:
        value = strict_json.read(path, schema=schema)
    except (FormatError, OSError):
        return None, []
    known = 0 <= value["n_right"] <= value["n"] != 0
    return ExactMatch(value["n_right"], value["n"]) if known else None, [Answered(**one) for one in value["answers"]]

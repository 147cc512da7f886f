"""Questions with known answers from a file, so that anyone can measure a model on a test of their own.

    {"prompt": "What is 12 times 7?", "answer": "84"}          one JSON object a line (.jsonl), or a list of them (.json)
    {"prompt": [{"role": "user", ...}], "answer": "84", "task": "products"}

A prompt is a user's message, or a conversation that ends with one. Right is what `exact_match` calls right: the answer letter by
letter, but for spaces around it. Records of one `task` are counted together, too. What is no question is skipped and counted.
"""

import os
from pathlib import Path
from typing import Any

from tinyllm.data.conversations.messages import as_messages, check_turns
from tinyllm.data.records import SUFFIXES, ReadReport, Skip, Where, read_each, read_records
from tinyllm.data.tasks.instructions import Instruction
from tinyllm.storage import FormatError

UNNAMED = "questions"  # the task of records that name none


def holds_questions(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of records of which the first has an "answer"."""
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES or not file.is_file():
        return False
    try:
        return next((isinstance(record, dict) and "answer" in record for _, record in read_records(file)), False)
    except FormatError:
        return False


def read_tasks(path: str | os.PathLike[str]) -> tuple[list[Instruction], ReadReport]:
    """The questions in a file, in order, and what was skipped or not used. ValueError if there is none."""
    return read_each(path, _instruction)


def _instruction(record: Any, where: Where) -> Instruction:
    """One record as an instruction."""
    where.object(record, ("prompt", "answer", "task"))
    if missing := [key for key in ("prompt", "answer") if key not in record]:
        raise where.error(f"a {missing[0]!r}", f"the keys {', '.join(record) or 'none'}")
    answer, task = record["answer"], where.text(record, "task") or UNNAMED
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    answer = where.at("answer").check(answer, str).strip()
    if not answer:
        raise Skip("with an empty answer")
    messages = as_messages(record["prompt"], "user", where.at("prompt"))
    check_turns(messages)
    if messages[-1]["role"] not in ("user", "tool"):
        raise Skip("whose prompt does not end with the user's message")
    return Instruction(task, "", [*messages, {"role": "assistant", "content": answer}], answer)

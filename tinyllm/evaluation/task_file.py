"""Questions with known answers from a file, so that anyone can measure a model on a test of their own.

    {"prompt": "What is 12 times 7?", "answer": "84"}          one JSON object a line (.jsonl), or a list of them (.json)
    {"prompt": [{"role": "user", ...}], "answer": "84", "task": "products"}

A prompt is a user's message, or a conversation that ends with one. Right is what `exact_match` calls right: the answer letter by
letter, but for spaces around it. Records of one `task` are counted together, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyllm.data.instructions import Instruction
from tinyllm.storage import FormatError, strict_json
from tinyllm.storage.strict_json import MapOf
from tinyllm.tokenizers.chat import check_open

UNNAMED = "questions"  # the task of records that name none


def first_keys(path: str | os.PathLike[str]) -> set[str]:
    """The keys of the first record of a .json or .jsonl file: what kind of file it is. None of any other file."""
    file = Path(path)
    if file.suffix not in (".json", ".jsonl") or not file.is_file():
        return set()
    records = _records(file)
    return set(records[0]) if records else set()


def read_tasks(path: str | os.PathLike[str]) -> list[Instruction]:
    """The questions in a file, in order. FormatError names the record that is none, and what it lacks."""
    file = Path(path)
    found = [_instruction(record, file, number) for number, record in enumerate(_records(file), start=1)]
    if not found:
        raise FormatError(file, field="records", expected='at least one with "prompt" and "answer"', found="none")
    return found


def _records(file: Path) -> list[dict[str, Any]]:
    content = file.read_bytes()
    if file.suffix == ".json":
        return strict_json.parse(content, file=file, schema=[MapOf(object)])
    lines = enumerate(content.splitlines(), start=1)
    return [strict_json.parse(line, file=file, field=f"line {n}", schema=MapOf(object)) for n, line in lines if line.strip()]


def _instruction(record: Mapping[str, Any], file: Path, number: int) -> Instruction:
    """One record as an instruction."""
    where = f"record {number}"
    if missing := [key for key in ("prompt", "answer") if key not in record]:
        raise FormatError(file, field=where, expected=f"a {missing[0]!r}", found=f"the keys {', '.join(record) or 'none'}")
    prompt, answer, task = record["prompt"], record["answer"], record.get("task", UNNAMED)
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    if not isinstance(answer, str) or not answer.strip() or not isinstance(task, str):
        raise FormatError(file, field=where, expected="an answer, and a task's name, in letters", found=f"{answer!r}, {task!r}")
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    try:
        check_open(messages)
    except ValueError as error:
        raise FormatError(file, field=f"{where}: prompt", expected="a user's message", found=str(error)) from None
    answer = answer.strip()
    return Instruction(task, "", [*map(dict, messages), {"role": "assistant", "content": answer}], answer)

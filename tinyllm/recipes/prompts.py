"""Prompts from files, or of the built-in news: conversations up to the answer."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.data.conversations import messages
from tinyllm.data.records import SUFFIXES
from tinyllm.data.tasks.news import make_story
from tinyllm.labels.news_items import NEWS, news_item
from tinyllm.recipes.events import Said, Show, silent
from tinyllm.storage.names import name_as_text

NEWS_PROMPTS = 50  # of the built-in news, unless said otherwise
TABLES = (".csv", ".tsv", ".xls", ".xlsx", ".parquet")  # a line of these is not a prompt


@dataclass(frozen=True)
class Prompt:
    """A conversation up to the answer, where it is from, and what belongs to it without being shown."""

    messages: list[dict[str, str]]
    source: str
    data: Mapping[str, Any] = field(default_factory=dict)


def read_prompts(
    path: str, *, n: int | None, rng: np.random.Generator, roles: Mapping[str, str] | None = None, show: Show = silent
) -> list[Prompt]:
    """The first `n` prompts of a file (all if None), or stories of the built-in news if `path` is "news".

    A file of records (.jsonl, .json) holds what `data.messages.read_prompts` knows; any other file a prompt a line. Says what was
    skipped or not used. ValueError if there is no prompt, for a table (.csv), and for text that is not UTF-8.
    """
    if path == "news":
        return [_news_prompt(rng) for _ in range(n or NEWS_PROMPTS)]
    file = Path(os.path.expanduser(path))
    if file.suffix.lower() in SUFFIXES:
        found, report = messages.read_prompts(file, roles=roles)
        if report.says_something:
            show(Said(f"Prompts: {report}"))
    else:
        lines = re.split(r"\r\n|\r|\n", _text_of(file))  # splitlines() would also cut at characters inside a line
        found = [[{"role": "user", "content": line.strip()}] for line in lines if line.strip()]
    if not found:
        raise ValueError(f"prompts: {file} holds no prompt; give one a line")
    return [Prompt(conversation, name_as_text(file.name)) for conversation in found[:n]]


def _text_of(file: Path) -> str:
    """The text of a file with a prompt a line."""
    if file.suffix.lower() in TABLES:
        advice = 'one JSON object a line with the key "prompt" (.jsonl), or text with a prompt a line (.txt)'
        raise ValueError(f"prompts: {file} is a table ({file.suffix}); expected {advice}")
    content = file.read_bytes()
    if b"\0" in content:
        raise ValueError(f"prompts: {file} is binary, or UTF-16 (it has NUL bytes); save it as UTF-8 text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"line {content[: error.start].count(10) + 1}: byte {content[error.start]:#x}"
        raise ValueError(f"prompts: {file}: {place} is not UTF-8; save the file as UTF-8 text") from None


def _news_prompt(rng: np.random.Generator) -> Prompt:
    item = news_item("story", make_story(rng), ("", ""))
    return Prompt([dict(message) for message in item.prompt], NEWS, item.data)

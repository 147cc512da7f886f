"""Prompts from a file or the built-in news, and a model's answers to them: what `tinyllm label make` writes.

Answers are drawn at temperature 1, as the model believes. They must differ, or there is nothing to compare: an answer that
is there already is drawn again, some times; a prompt to which the model has one answer only is left out.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.labels.items import FEWEST_ANSWERS, Item

NEWS_PROMPTS = 50  # of the built-in news, unless said otherwise
MOST_DRAWS = 10  # for each answer that is wanted, before the model is said to have no other
TABLES = (".csv", ".tsv", ".xls", ".xlsx", ".parquet")  # a line of these is not a prompt


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A conversation up to the answer, where it is from, and what belongs to it without being shown."""

    messages: list[dict[str, str]]
    source: str
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_prompts(
    path: str, *, n: int | None, rng: np.random.Generator, roles: Mapping[str, str] | None = None
) -> list[Prompt]:  # fmt: skip
    """The first `n` prompts of a file (all if None), or stories of the built-in news if `path` is "news".

    A file of records (.jsonl, .json) holds what `data.messages.read_prompts` knows; any other file a prompt a line. Prints what
    was skipped or not used. ValueError if there is no prompt, for a table (.csv), and for text that is not UTF-8.
    """
    from tinyllm.data.conversations import messages
    from tinyllm.data.records import SUFFIXES
    from tinyllm.storage.names import name_as_text

    if path == "news":
        return [_news_prompt(rng) for _ in range(n or NEWS_PROMPTS)]
    file = Path(os.path.expanduser(path))
    if file.suffix.lower() in SUFFIXES:
        found, report = messages.read_prompts(file, roles=roles)
        if report.says_something:
            print(f"Prompts: {report}", flush=True)
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
    from tinyllm.data.tasks.news import make_story
    from tinyllm.labels.news_items import NEWS, news_item

    item = news_item("story", make_story(rng), ("", ""))
    return Prompt([dict(message) for message in item.prompt], NEWS, item.data)


def sample_items(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], *, n_answers: int, seed: int, settings: Mapping[str, Any]
) -> Iterator[Item]:
    """Yield an item for each prompt, with up to `n_answers` different answers: fewer where the model finds no more.

    A prompt with a single answer gives no item.
    settings  of decoding.GenerationConfig. ValueError if a prompt leaves no room for an answer in the model's context.
    """
    from tinyllm.tokenizers.chat import chat_format

    chat = chat_format(tokenizer)
    for number, prompt in enumerate(prompts):
        rng = np.random.default_rng([seed, number])
        answers = _answers(model, chat, prompt.messages, n_answers=n_answers, rng=rng, settings=settings)
        if len(answers) < FEWEST_ANSWERS:
            continue
        yield Item(f"{number:05d}", prompt.messages, tuple(answers), source=prompt.source, data=prompt.data)


def _answers(
    model: Any, chat: Any, messages: list[dict[str, str]], *, n_answers: int, rng: np.random.Generator,
    settings: Mapping[str, Any],
) -> list[str]:  # fmt: skip
    """Different answers to one conversation, each as the assistant's text; a call of a tool is shown as one.

    All are drawn as one batch; for those that came twice a batch of the missing number is drawn, up to MOST_DRAWS in all.
    """
    from tinyllm.decoding import GenerationConfig, generate

    ids = chat.prompt(messages)
    room = model.config.block_size - len(ids)
    if room < 1:
        raise ValueError(f"prompts: one has {len(ids)} tokens, the model's context {model.config.block_size}: no room to answer")
    config = GenerationConfig(**{**settings, "max_new_tokens": min(settings["max_new_tokens"], room)})
    config = dataclasses.replace(config, stop_tokens=chat.tokenizer.stop_ids)
    answers: dict[str, None] = {}  # in the order in which they came
    for _ in range(MOST_DRAWS if config.samples else 1):
        result = generate(model, [ids] * (n_answers - len(answers)), config=config, rng=rng)
        replies = [chat.parse([int(i) for i in tokens]) for tokens in result.tokens]
        texts = [reply["content"] + (f" [{reply['tool_call']}]" if "tool_call" in reply else "") for reply in replies]
        answers |= dict.fromkeys(texts)
        if len(answers) == n_answers:
            break
    return list(answers)

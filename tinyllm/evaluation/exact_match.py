"""Does the model answer right? Exact match on instructions whose answers are known, task by task, with standard errors.

    accuracy p = right / n        standard error = √(p (1 - p) / n)

The model is asked as in a chat: it gets the conversation up to the user's message and writes, always the likeliest token,
until it ends its turn. If it calls the calculator, the call is executed and the model goes on with the result, so a
wrong expression gives a wrong answer. The standard error is that of a share of n independent trials: two models whose
accuracies differ by less than two of them may well be equally good.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tinyllm.data.instructions import Instruction, is_correct
from tinyllm.decoding import generate
from tinyllm.decoding.calculator import calculate
from tinyllm.nn import evaluating

MAX_CALLS = 1  # tool calls that one answer may make


@dataclass(frozen=True)
class ExactMatch:
    """`n_right` of `n` answers were right."""

    n_right: int
    n: int

    @property
    def accuracy(self) -> float:
        return self.n_right / self.n

    @property
    def standard_error(self) -> float:
        """√(p(1-p)/n), the standard deviation that the accuracy would have over many test sets of this size."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.n)


def measure_exact_match(
    model: Any,
    instructions: Sequence[Instruction],
    *,
    chat: Any,
    calculate: Callable[[str], str] = calculate,
    max_new_tokens: int = 64,
    batch_size: int = 64,
) -> dict[str, ExactMatch]:
    """Ask `model` all verifiable instructions; task -> result, in order of appearance, and "all" last.

    chat: a tokenizers.ChatFormat. calculate: expression -> what the tool answers, both text.
    """
    asked = [item for item in instructions if item.verifiable]
    if not asked:
        raise ValueError("instructions holds no verifiable one, so there is nothing to measure; give at least one")
    settings = {"chat": chat, "calculate": calculate, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
    replies = answer_all(model, [item.prompt for item in asked], **settings)
    right: dict[str, list[bool]] = {}
    for item, reply in zip(asked, replies, strict=True):
        right.setdefault(item.task, []).append(is_correct(item, reply))
    right["all"] = [one for answers in right.values() for one in answers]
    return {task: ExactMatch(sum(answers), len(answers)) for task, answers in right.items()}


def answer_all(
    model: Any,
    conversations: Sequence[Sequence[dict[str, str]]],
    *,
    chat: Any,
    calculate: Callable[[str], str] = calculate,
    max_new_tokens: int = 64,
    batch_size: int = 64,
) -> list[str]:
    """The model's greedy answer to each conversation, tool calls carried out; conversations of like length go together."""
    prompts = [chat.prompt(conversation) for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    replies = [""] * len(prompts)
    with evaluating(model):
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            answers = _answer_batch(model, [list(conversations[i]) for i in rows], chat, calculate, max_new_tokens)
            for i, answer in zip(rows, answers, strict=True):
                replies[i] = answer
    return replies


def _answer_batch(
    model: Any, conversations: list[list[dict[str, str]]], chat: Any, calculate: Callable[[str], str], max_new_tokens: int
) -> list[str]:
    """One batch: all answer, then those that called a tool once more."""
    replies = [""] * len(conversations)
    waiting = list(range(len(conversations)))
    for turn in range(MAX_CALLS + 1):
        prompts = [chat.prompt(conversations[i]) for i in waiting]
        room = model.config.block_size - max(map(len, prompts))
        if room < 1:
            raise ValueError(f"a conversation has {max(map(len, prompts))} tokens; block_size {model.config.block_size} has no room")
        result = generate(model, prompts, max_new_tokens=min(max_new_tokens, room), temperature=0, stop_tokens=(chat.end_id,))
        calling = []
        for i, ids in zip(waiting, result.tokens, strict=True):
            message = chat.parse(ids)
            replies[i] = message["content"]
            if "tool_call" in message and turn < MAX_CALLS:
                conversations[i] += [message, {"role": "tool", "content": calculate(message["tool_call"])}]
                calling.append(i)
        waiting = calling
        if not waiting:
            break
    return replies

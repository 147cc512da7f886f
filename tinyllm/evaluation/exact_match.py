"""Does the model answer right? Exact match on instructions whose answers are known, task by task, with standard errors.

    accuracy p = right / n        standard error = √(p (1 - p) / n)

The model is asked as in a chat: it gets the conversation up to the user's message and writes, always the likeliest token,
until it ends its turn. If it calls the calculator, the call is executed and the model goes on with the result, so a
wrong expression gives a wrong answer. The standard error is that of a share of n independent trials: two models whose
accuracies differ by less than two of them may well be equally good.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tinyllm.chat.calculator import calculate
from tinyllm.data.tasks.instructions import Instruction, is_correct
from tinyllm.decoding import GenerationConfig, generate
from tinyllm.models.contract import LanguageModel
from tinyllm.nn import evaluating
from tinyllm.tokenizers.chat_templates import Chat

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
    model: LanguageModel, instructions: Sequence[Instruction], *, chat: Chat, calculate: Callable[[str], str] = calculate,
    max_new_tokens: int = 64, batch_size: int = 64,
) -> dict[str, ExactMatch]:  # fmt: skip
    """Ask `model` all verifiable instructions; task -> result, in order of appearance, and "all" last.

    chat: a tokenizers.ChatFormat, or PlainChatFormat for a base model. calculate: expression -> what the tool answers, both text.
    """
    asked = [item for item in instructions if item.verifiable]
    if not asked:
        raise ValueError("instructions holds no verifiable one, so there is nothing to measure; give at least one")
    replies = answer_all(
        model, [item.prompt for item in asked], chat=chat, calculate=calculate, max_new_tokens=max_new_tokens,
        batch_size=batch_size,
    )  # fmt: skip
    right: dict[str, list[bool]] = {}
    for item, reply in zip(asked, replies, strict=True):
        right.setdefault(item.task, []).append(is_correct(item, reply))
    right["all"] = [one for answers in right.values() for one in answers]
    return {task: ExactMatch(sum(answers), len(answers)) for task, answers in right.items()}


def answer_all(
    model: LanguageModel, conversations: Sequence[Sequence[dict[str, str]]], *, chat: Chat,
    calculate: Callable[[str], str] = calculate,
    max_new_tokens: int = 64, batch_size: int = 64,
) -> list[str]:  # fmt: skip
    """The model's greedy answer to each conversation, tool calls carried out; conversations of like length go together."""
    prompts = [chat.prompt(conversation) for conversation in conversations]
    if (longest := max(map(len, prompts))) >= model.config.block_size:
        raise ValueError(f"a conversation has {longest} tokens: block_size {model.config.block_size} has no room for an answer")
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
    model: LanguageModel,
    conversations: list[list[dict[str, str]]],
    chat: Chat,
    calculate: Callable[[str], str],
    max_new_tokens: int,
) -> list[str]:
    """One batch: all answer, then those that called a tool once more. `conversations` grow by the calls."""
    replies = [""] * len(conversations)
    waiting = list(range(len(conversations)))
    for turn in range(MAX_CALLS + 1):
        prompts = {i: chat.prompt(conversations[i]) for i in waiting}
        said = next_messages(model, prompts, chat=chat, max_new_tokens=max_new_tokens)
        waiting = []
        for i, message in said.items():
            replies[i] = message["content"]
            if "tool_call" in message and turn < MAX_CALLS:
                conversations[i] += [message, {"role": "tool", "content": calculate(message["tool_call"])}]
                waiting.append(i)
    return replies


def next_messages(
    model: LanguageModel, prompts: Mapping[int, list[int]], *, chat: Chat, max_new_tokens: int
) -> dict[int, dict[str, str]]:
    """The assistant's next message after each prompt of ids, by the prompt's key; none where the context is already full.

    A batch shares one limit of new tokens, so prompts that leave less room than max_new_tokens go alone.
    """
    rooms = {i: model.config.block_size - len(prompt) for i, prompt in prompts.items()}
    together = [i for i, room in rooms.items() if room >= max_new_tokens]
    alone = [[i] for i, room in rooms.items() if 0 < room < max_new_tokens]
    messages: dict[int, dict[str, str]] = {}
    for rows in [together, *alone] if together else alone:
        limit = min(max_new_tokens, rooms[rows[0]])
        config = GenerationConfig(limit, temperature=0, stop_tokens=chat.tokenizer.stop_ids)
        result = generate(model, [prompts[i] for i in rows], config=config)
        messages |= {i: chat.parse(ids) for i, ids in zip(rows, result.tokens, strict=True)}
    return messages

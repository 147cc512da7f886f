"""The embedded instruction set: conversations with exact answers, made by programs, as many as wanted.

    for item in make_instructions(1000, split="train", rng=rng): item.messages

Ouyang et al. 2022 (InstructGPT, section 3.2) paid people for demonstrations; here the demonstrations are of tasks that a
program solves, so there is no end to them, every answer is right, and a reply can be judged by comparing it. Training
and test differ in content and in phrasing, both: see `made_up.py` and `exact_tasks.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.data.tasks import exact as exact_tasks
from tinyllm.data.tasks import reading as reading_tasks
from tinyllm.data.tasks import small_talk as talk_tasks
from tinyllm.data.tasks import tool_calls
from tinyllm.data.tasks.contents import SPLITS
from tinyllm.data.tasks.exact import Task
from tinyllm.data.tasks.news import REQUESTS, make_story

TASKS: dict[str, Task] = {
    task.name: task for tasks in (exact_tasks, reading_tasks, tool_calls, talk_tasks) for task in tasks.TASKS
}

SUMMARY = "summary"  # a task beside these: a paragraph of `news.py` into its facts; many summaries of one are right

OPENERS = ("Please: ", "Hello! ", "Question: ", "Another question. ", "And now this: ", "Good day. ", "Hello, please help. ")
OPENED = 0.4  # share of the training questions that begin with one, so that no word is always at the same place (no greetings)

LOWERED = 0.2  # share of them that begin with a small letter, as people type


@dataclass(frozen=True)
class Instruction:
    """One demonstration. `messages` is the conversation, ending with the assistant's answer."""

    task: str
    template: str  # the phrasing, before it was filled in and without an opener
    messages: list[dict[str, str]]
    answer: str  # what is right: the assistant's last message
    verifiable: bool = True
    facts: tuple[str, ...] = ()  # of a summary: right is what holds all of them

    @property
    def prompt(self) -> list[dict[str, str]]:
        """What the model is given: the messages up to the user's last."""
        last = max(i for i, message in enumerate(self.messages) if message["role"] == "user")
        return self.messages[: last + 1]


def make_instructions(n: int, *, split: str, rng: np.random.Generator, tasks: Sequence[str] | None = None) -> list[Instruction]:
    """`n` instructions of one split; each task by its weight, and within it each phrasing as likely.

    tasks: names of TASKS (all of them by default) and SUMMARY, which has to be asked for. ValueError for an unknown name.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    names = list(TASKS) if tasks is None else list(tasks)
    if unknown := [name for name in names if name not in (*TASKS, SUMMARY)]:
        raise ValueError(f"tasks holds the unknown {unknown[0]!r}; known are {', '.join((*TASKS, SUMMARY))}")
    if not names:
        raise ValueError("tasks is empty; name at least one, or leave it out for all of them")
    weights = np.array([TASKS[name].weight if name in TASKS else 1.0 for name in names])
    chosen = [names[int(i)] for i in rng.choice(len(names), size=n, p=weights / weights.sum())]
    return [_make_summary(split, rng) if name == SUMMARY else _make(TASKS[name], split, rng) for name in chosen]


def _make(task: Task, split: str, rng: np.random.Generator) -> Instruction:
    phrasings = task.phrasings(split)
    phrasing = phrasings[int(rng.integers(len(phrasings)))]
    fields = task.draw(rng, split)
    opener = OPENERS[int(rng.integers(len(OPENERS)))] if split == "train" and fields and rng.random() < OPENED else ""
    answer = phrasing.answer.format(**fields)
    asked = opener + phrasing.prompt.format(**fields)
    if split == "train" and not phrasing.prompt.startswith("{") and rng.random() < LOWERED:
        asked = asked[0].lower() + asked[1:]
    messages = [{"role": "user", "content": asked}]
    if "call" in fields:
        messages.append({"role": "assistant", "content": "", "tool_call": fields["call"]})
        messages.append({"role": "tool", "content": answer})
    messages.append({"role": "assistant", "content": answer})
    return Instruction(task.name, phrasing.prompt, messages, answer)


def _make_summary(split: str, rng: np.random.Generator) -> Instruction:
    """A paragraph and one sentence with all its facts."""
    own = [request for request in REQUESTS[split] if split == "train" or request not in REQUESTS["train"]]
    template = own[int(rng.integers(len(own)))]
    story = make_story(rng, split)
    answer = f"There was a {story.event} in {story.place}, {story.count} damaged, {story.person} said."
    messages = [{"role": "user", "content": template.format(story.paragraph)}, {"role": "assistant", "content": answer}]
    return Instruction(SUMMARY, template, messages, answer, facts=story.facts)


def is_correct(instruction: Instruction, reply: str) -> bool:
    """Whether the reply is exactly the answer, but for spaces around it.

    A summary is right if all the facts are in it, whatever else is: exact match would ask for one wording of many.
    """
    if instruction.facts:
        return all(fact in reply for fact in instruction.facts)
    return reply.strip() == instruction.answer

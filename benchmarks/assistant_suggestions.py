"""Is the assistant of quickstart right about what it says it can do? Asked as a person asks: in a chat, at a chat's temperature.

suggestions   its own suggested questions, one after the other in one conversation, over several sampling seeds
example       the question in `tinyllm chat --help`
small talk    greetings, thanks, "who are you": does it answer as it was shown, in phrasings that it was not shown
off script    questions that it cannot know, from a list that nothing was trained on: does it say that it does not know
turns         exact match of held-out tasks after 0 to 5 other questions, in a chat (with the turns that the model's folder
              gives it), and if it were given the whole conversation instead

python -m benchmarks.assistant_suggestions runs/quickstart runs/quickstart-2 --json suggestions.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinyllm
from tinyllm.chat import crop_history, newest_turns, read_chat_settings, reply
from tinyllm.data.tasks.instructions import Instruction, make_instructions
from tinyllm.data.tasks.small_talk import UNKNOWN
from tinyllm.decoding import GenerationConfig
from tinyllm.evaluation.exact_match import answer_all
from tinyllm.recipes.loading import LoadedModel
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import find_model

EXAMPLE = ("What is 12 times 7?", "84")
TEMPERATURE = 0.7
OFF_SCRIPT = """\
What is the capital of France?
Tell me a joke.
how old are you
I feel sad today
What is love?
Write a poem about the sea.
How do I cook rice?
print hello world in python
who is the president
asdfgh
Why is the sky blue?
Can you recommend a film?
What is the weather like in Berlin?
Translate good morning to French.
Who won the world cup?
Is it going to rain tomorrow?
What is the meaning of life?
What is a neural network?
How do I fix my bicycle?
Tell me a story about a dragon.
What is the square root of two?
Where do you live?
My name is Peter.
I am hungry.
What is the fastest animal in the world?
Who wrote Hamlet?
How far is the moon?
Explain quantum physics to a child.
What is the best programming language?
Give me a recipe for pancakes.
What happened in 1969?
lorem ipsum dolor sit amet
Is there life on Mars?
How many people live in China?
What did you have for breakfast?
Sing me a song.
What colour is a banana?
Write a function that reverses a list.
What does len do in Python?
How do I open a file?
When was Einstein born?
Can machines think?
The weather is nice.
Please write an email to my boss.
How many legs does a spider have?
What is the difference between a cat and a dog?
Summarise the history of Rome.
Which country is the largest?
Who found America?
Where can I buy a bicycle?""".splitlines()


def suggested(run: Path) -> list[dict[str, str]]:
    """The questions that quickstart suggested at its end, with their answers."""
    return json.loads((run / "results.json").read_text())["suggestions"]


def talk(model: LoadedModel, questions: Sequence[str], *, seed: int) -> Iterator[str]:
    """The answers of one conversation."""
    rng = np.random.default_rng(seed)
    config = GenerationConfig(max_new_tokens=64, temperature=TEMPERATURE)
    messages: list[dict[str, str]] = []
    for question in questions:
        messages.append({"role": "user", "content": question})
        given = newest_turns(messages, model.turns)
        *_, last = reply(model.model, model.tokenizer, given, config=config, rng=rng)
        messages += last.messages  # type: ignore[union-attr]
        yield last.text  # type: ignore[union-attr]


def right_of(model: LoadedModel, asked: Sequence[dict[str, str]], *, n_seeds: int) -> list[int]:
    """How often each was answered right, all asked in one conversation, over so many seeds."""
    counts = [0] * len(asked)
    for seed in range(n_seeds):
        for i, answer in enumerate(talk(model, [one["question"] for one in asked], seed=seed)):
            counts[i] += answer.strip() == asked[i]["answer"]
    return counts


def small_talk() -> list[Instruction]:
    """Each phrasing of the test split once."""
    found = make_instructions(400, split="test", rng=np.random.default_rng(0), tasks=["small talk"])
    return list({item.template: item for item in found}.values())


def share_as_expected(model: LoadedModel, questions: Sequence[str], expected: Sequence[str], *, n_seeds: int) -> float:
    """Share of answers that are exactly the expected ones, each question in a conversation of its own."""
    right = [next(talk(model, [question], seed=seed)).strip() == wanted
             for seed in range(n_seeds) for question, wanted in zip(questions, expected, strict=True)]  # fmt: skip
    return float(np.mean(right))


def after_turns(model: LoadedModel, *, n: int, most: int, turns: int | None) -> list[float]:
    """Exact match of `n` held-out tasks after 0, 1, ... `most` other questions and their answers; `turns` as in newest_turns."""
    rng = np.random.default_rng(5)
    tasks = make_instructions(n, split="test", rng=rng)
    others = make_instructions(n * most, split="test", rng=rng)
    chat = ChatFormat(model.tokenizer)
    room = model.model.config.block_size - model.model.config.block_size // 4  # what a chat leaves for the answer
    found = []
    for k in range(most + 1):
        histories = [[m for other in others[i * most : i * most + k] for m in other.messages] for i in range(n)]
        given = [newest_turns([*history, *item.prompt], turns) for history, item in zip(histories, tasks, strict=True)]
        replies = answer_all(model.model, [crop_history(chat, one, room=room)[0] for one in given], chat=chat, max_new_tokens=32)
        found.append(float(np.mean([text.strip() == item.answer for text, item in zip(replies, tasks, strict=True)])))
    return found


def measure(run: Path, *, n_seeds: int, n: int) -> dict[str, Any]:
    """All of it for one run."""
    model = tinyllm.load(run)
    assert isinstance(model, LoadedModel)
    asked, talked = suggested(run), small_talk()
    turns = read_chat_settings(find_model(run)).turns
    few = max(1, n_seeds // 3)
    counts = right_of(model, asked, n_seeds=n_seeds)
    return {
        "run": str(run), "n_seeds": n_seeds,
        "suggestions": [{**one, "right": count} for one, count in zip(asked, counts, strict=True)],
        "example": right_of(model, [dict(zip(("question", "answer"), EXAMPLE, strict=True))], n_seeds=n_seeds)[0],
        "small_talk": share_as_expected(
            model, [one.prompt[-1]["content"] for one in talked], [one.answer for one in talked], n_seeds=few),
        "off_script": share_as_expected(model, OFF_SCRIPT, [UNKNOWN] * len(OFF_SCRIPT), n_seeds=few),
        "after_turns": after_turns(model, n=n, most=5, turns=turns),
        "after_turns_all_seen": after_turns(model, n=n, most=5, turns=None),
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """One run as a small table."""
    n = result["n_seeds"]
    print(f"\n{result['run']}")
    for one in result["suggestions"]:
        print(f"  {one['right']:>3} of {n}   {one['question']}  ->  {one['answer']}")
    print(f"  {result['example']:>3} of {n}   {EXAMPLE[0]}  ->  {EXAMPLE[1]}   (chat --help)")
    print(
        f"  {result['small_talk']:.0%} of greetings, thanks and the like; {result['off_script']:.0%} of other questions declined"
    )
    for name in ("after_turns", "after_turns_all_seen"):
        print(f"  {name:<22}{'  '.join(f'{100 * share:5.1f}' for share in result[name])}   % right after 0 to 5 turns")


def main(runs: Sequence[str], *, n_seeds: int = 10, n: int = 200, json_file: str | None = None) -> list[dict[str, Any]]:
    """Measure and show each run."""
    results = []
    for run in runs:
        results.append(measure(Path(run), n_seeds=n_seeds, n=n))
        show(results[-1])
    if json_file:
        Path(json_file).write_text(json.dumps(results, indent=1) + "\n")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders that quickstart made")
    parser.add_argument("--seeds", type=int, default=10, help="sampling seeds (default: 10)")
    parser.add_argument("--tasks", type=int, default=200, help="held-out tasks for each number of turns (default: 200)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    given = parser.parse_args()
    main(given.runs, n_seeds=given.seeds, n=given.tasks, json_file=given.json)

"""What each step from base model to assistant was good for: several models on one test set, and what the last can be asked.

evaluate(name, model, test)  -> Row          right answers to held-out tasks, and the quality of its summaries
suggestions(row, model, ...) -> questions    of those kinds that it has just been seen to answer
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.chat import Reply, calculate, reply
from tinyllm.data.tasks.gold import gold_reward
from tinyllm.data.tasks.instructions import Instruction, is_correct, make_instructions
from tinyllm.data.tasks.news import Story, story_prompt
from tinyllm.decoding import TEMPERATURE, GenerationConfig
from tinyllm.evaluation.exact_match import ExactMatch, measure_exact_match
from tinyllm.models import RewardModel
from tinyllm.models.contract import LanguageModel
from tinyllm.recipes.label import sample_answers
from tinyllm.rlhf.reward_model import score_sequences
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training.streams import stream

SUGGESTED = (  # kinds of questions, in the order in which a person is shown them
    "calculator", "extract", "reverse", "sort", "spell", "largest and smallest", "first and last",
)  # fmt: skip
LEARNED = 0.9  # share of right answers from which on a kind is suggested
N_DRAWN = 8  # questions of a kind, of which the first is suggested that the model is sure of


def make_test(n: int, *, seed: int) -> list[Instruction]:
    """Instructions of the test split: other contents and other phrasings than those learned from."""
    return make_instructions(n, split="test", rng=stream(seed, "test tasks"))


@dataclass(frozen=True)
class Row:
    """One model on the test set: (mean, standard error) of each measure."""

    name: str
    tasks: tuple[float, float]  # share of held-out tasks answered exactly
    by_kind: dict[str, ExactMatch]  # the same, kind by kind
    gold: tuple[float, float]  # of its summaries: what the labeler would truly think
    score: tuple[float, float]  # of the same: what the reward model thinks
    words: float  # per summary
    examples: list[str]  # its summaries of the first stories


def mean_and_error(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean and its standard error, the deviation over √n."""
    values = np.asarray(values, dtype=float)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


@dataclass(frozen=True)
class TestSet:
    """What all models are measured on, and who judges."""

    __test__ = False  # not one of pytest's

    tokenizer: Tokenizer
    reward_model: RewardModel
    instructions: Sequence[Instruction]
    stories: Sequence[Story]
    seed: int = 0


def evaluate(name: str, model: LanguageModel, test: TestSet, *, best_of: int = 1, same: Row | None = None) -> Row:
    """One model on held-out tasks (greedy) and stories (sampled at temperature 1); with `best_of` the reward model picks.

    Picking is for summaries only: of anything else the reward model has never seen a comparison. `same`: the row of the same
    model without picking, whose tasks need not be measured again.
    """
    chat, stories = ChatFormat(test.tokenizer), test.stories
    answers = sample_answers(model, test.tokenizer, stories, k=best_of, rng=stream(test.seed, "answers to test"))
    prompts = [chat.prompt(story_prompt(story)) for story in stories for _ in range(best_of)]
    ids = [chat.answer(text) for own in answers for text in own]
    ids = [answer[: model.config.block_size - len(prompt)] for answer, prompt in zip(ids, prompts, strict=True)]
    scores = score_sequences(test.reward_model, pad_sequences(prompts, ids)).reshape(len(stories), best_of)
    chosen = [own[i] for own, i in zip(answers, scores.argmax(axis=1).tolist(), strict=True)]
    golds = [gold_reward(story, text) for story, text in zip(stories, chosen, strict=True)]
    words = float(np.mean([len(text.split()) for text in chosen]))
    tasks, by_kind = (same.tasks, same.by_kind) if same else _tasks(model, test)
    return Row(name, tasks, by_kind, mean_and_error(golds), mean_and_error(scores.max(axis=1)), words, chosen[:6])


def _tasks(model: LanguageModel, test: TestSet) -> tuple[tuple[float, float], dict[str, ExactMatch]]:
    """Share of right answers with its standard error, and the results kind by kind."""
    found = measure_exact_match(model, test.instructions, chat=ChatFormat(test.tokenizer), calculate=calculate)
    right = found.pop("all")
    return (right.accuracy, right.standard_error), found


def suggestions(row: Row, model: LanguageModel, tokenizer: Tokenizer, *, seed: int) -> list[Instruction]:
    """Up to six questions of the test split, each of another kind: of those that the row's model has learned, and each of them
    one that it answers right again and again at the temperature of a chat. What it is not sure of it does not offer."""
    rng = stream(seed, "suggestions")
    found: list[Instruction] = []
    for kind in SUGGESTED:
        if len(found) < 6 and kind in row.by_kind and row.by_kind[kind].accuracy >= LEARNED:
            drawn = make_instructions(N_DRAWN, split="test", rng=rng, tasks=[kind])
            found += next(([item] for item in drawn if is_sure(model, tokenizer, item, rng=rng)), [])
    return found


def is_sure(model: LanguageModel, tokenizer: Tokenizer, item: Instruction, *, rng: np.random.Generator, n: int = 10) -> bool:
    """Whether the model answers right n times of n, as in a chat."""
    config = GenerationConfig(max_new_tokens=48, temperature=TEMPERATURE)
    replies = (list(reply(model, tokenizer, item.prompt, config=config, rng=rng))[-1] for _ in range(n))
    return all(isinstance(last, Reply) and is_correct(item, last.text) for last in replies)

"""From base model to assistant, as functions: InstructGPT's steps 1 and 2 (Ouyang et al. 2022, figure 2), and what measures all.

    encode_demonstrations(conversations)     -> Demonstrations   as ids, some conversations held out
    tune(model, demonstrations, ...)         -> records          step 1: loss on the answer only
    label_stories(model, tokenizer, ...)     -> preferences      step 2: five answers of the model to each story, rated
    prepare_comparisons(preferences, ...)    -> Comparisons              as ids, some prompts held out
    train_reward(model, comparisons, ...)    -> RewardTraining           a model learns the taste
    evaluate(name, model, ...)               -> Row              what a step was good for, on the same test set

The verbs `finetune`, `reward`, `dpo` and `rl` are these with your data, `quickstart` with made ones: stories whose truth is
known, and a simulated labeler whose preferences are known (`data/tasks/news.py`, `data/tasks/gold.py`). What comes before is in
`pretrain.py`, step 3 in `improve.py`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.chat import Reply, reply
from tinyllm.chat.calculator import calculate
from tinyllm.data import PackedConversations, PaddedConversations, conversation_batches
from tinyllm.data.conversations.preferences import Preference
from tinyllm.data.split import hold_out
from tinyllm.data.tasks.gold import gold_reward
from tinyllm.data.tasks.instructions import Instruction, is_correct, make_instructions
from tinyllm.data.tasks.news import Story, make_summary, story_prompt
from tinyllm.decoding import TEMPERATURE, GenerationConfig
from tinyllm.evaluation.exact_match import ExactMatch, measure_exact_match
from tinyllm.evaluation.held_out_answers import answer_held_out, write_answers
from tinyllm.finetuning import answer_loss
from tinyllm.labels.items import read_items, write_items
from tinyllm.labels.news_items import news_item, news_labeler
from tinyllm.labels.pairs import pairs_from_labels
from tinyllm.labels.store import LabelStore
from tinyllm.models import GPT
from tinyllm.models.heads import RewardModel
from tinyllm.recipes.news_task import make_stories, sample_answers
from tinyllm.report.reward import measure_pairs, write_reward_report
from tinyllm.rlhf.comparisons import ComparedAnswers, EncodingReport, encode_preferences
from tinyllm.rlhf.policy_gradient import disable_dropout
from tinyllm.rlhf.reward_model import (
    PreferenceGroups,
    compare_pairs,
    normalise,
    pair_accuracy,
    preference_loss,
    score_sequences,
)
from tinyllm.rlhf.rollout import check_number
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import RunFolder, TrainConfig, train
from tinyllm.training.streams import stream

NEWS_SHARE = 0.2  # of the made demonstrations
SUGGESTED = (  # kinds of questions, in the order in which a person is shown them
    "calculator", "extract", "reverse", "sort", "spell", "largest and smallest", "first and last",
)  # fmt: skip
LEARNED = 0.9  # share of right answers from which on a kind is suggested
N_DRAWN = 8  # questions of a kind, of which the first is suggested that the model is sure of
N_COMPARED = 12  # prompts whose answers before and after go into the report

Conversation = list[dict[str, str]]
Encoded = tuple[list[int], list[bool]]


def make_demonstrations(n: int, *, seed: int) -> list[Conversation]:
    """n questions, each answered: tasks with exact answers, and summaries of mixed quality, in random order.

    Every question stands alone. Learned in conversations of several, at the same cost, fewer were answered right, the first of a
    conversation too; so a chat gives the model the newest message alone (chat/settings.py).
    """
    rng = stream(seed, "demonstrations")
    n_news = int(n * NEWS_SHARE)
    conversations = [item.messages for item in make_instructions(n - n_news, split="train", rng=rng)]
    for story in make_stories(n_news, split="train", seed=seed + 1):
        conversations.append([*story_prompt(story), {"role": "assistant", "content": make_summary(story, rng)}])
    return [conversations[i] for i in rng.permutation(len(conversations))]


def make_test(n: int, *, seed: int) -> list[Instruction]:
    """Instructions of the test split: other contents and other phrasings than those learned from."""
    return make_instructions(n, split="test", rng=stream(seed, "test tasks"))


@dataclass(frozen=True)
class Demonstrations:
    """Conversations as (ids, mask): those to learn from, those held out, and in words what was left out ("" if nothing)."""

    training: list[Encoded]
    held_out: list[Encoded]
    left_out: str

    @property
    def n(self) -> int:
        """How many conversations are used."""
        return len(self.training) + len(self.held_out)


def encode_demonstrations(
    conversations: Sequence[Conversation], tokenizer: Any, *, block_size: int, config: TrainConfig,
    validation_fraction: float = 0.05,
) -> Demonstrations:  # fmt: skip
    """The conversations that fit the context, as ids, some of them held out. ValueError unless two are left."""
    encoded = [ChatFormat(tokenizer).encode(messages) for messages in conversations]
    fitting = [one for one in encoded if len(one[0]) <= block_size + 1]
    left_out = f"{len(encoded) - len(fitting):,} of {len(encoded):,} longer than the model's context of {block_size} tokens"
    left_out = left_out if len(fitting) < len(encoded) else ""
    if len(fitting) < 2:
        found = f"{len(encoded)} came{', ' * bool(left_out)}{left_out}"
        advice = "; begin with a model trained with a longer context (tinyllm train --block-size N)" if left_out else ""
        raise ValueError(f"conversations: {found}; at least two must fit, one to learn from and one to hold out{advice}")
    n_held_out = max(1, min(int(len(fitting) * validation_fraction), config.eval_batches * config.batch_size))
    try:
        sides = hold_out(fitting, n_held_out, seed=config.seed, content=lambda one: tokenizer.decode_bytes(one[0]))
    except ValueError as error:
        raise ValueError(f"conversations: {error}") from None
    return Demonstrations(*sides, left_out)


def tune(
    model: GPT, demonstrations: Demonstrations, *, config: TrainConfig, run: RunFolder, packing: bool = True
) -> Iterator[Any]:
    """Step 1: trains `model` on what the assistant says; yields the records."""
    shape = {"batch_size": config.batch_size, "block_size": model.config.block_size}
    source_class = PackedConversations if packing else PaddedConversations
    source = source_class(demonstrations.training, **shape, rng=stream(config.seed, "order of conversations"))
    evaluation = conversation_batches(demonstrations.held_out, **shape)
    yield from train(model, source, config=config, loss_fn=answer_loss, evaluation=evaluation, run=run)


def write_held_out_answers(model: GPT, demonstrations: Demonstrations, tokenizer: Any, *, run: RunFolder) -> None:
    """Let the tuned model answer what was held out, for the run's report."""
    write_answers(run.path, answer_held_out(model, demonstrations.held_out, chat=ChatFormat(tokenizer)))


def label_stories(
    model: GPT, tokenizer: Any, stories: Sequence[Story], *, folder: Path, seed: int, k: int = 5
) -> tuple[list[Preference], Any]:
    """Step 2: the model answers each story k times, the simulated labeler rates. (preferences, report).

    items.jsonl and labels.jsonl are left in `folder`, where `tinyllm label` shows the same answers to a person. What stands there
    already stays: answers are not written again, only missing labels are added, and those of people are not touched (nor
    learned from here, so that one seed gives one model whoever was labeling meanwhile).
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "items.jsonl"
    if not file.exists():
        answers = sample_answers(model, tokenizer, stories, k=k, rng=stream(seed, "answers to label"))
        named = enumerate(zip(stories, answers, strict=True))
        write_items(file, [news_item(f"news-{i:04d}", story, own) for i, (story, own) in named])
    items = read_items(file)
    with LabelStore(folder / "labels.jsonl", items) as store:
        labels = news_labeler("simulated", items, seed=seed).label_all(items, store)
    return pairs_from_labels({label.place: label for label in labels}, items)


@dataclass(frozen=True)
class Comparisons:
    """Compared answers as ids: those to learn from, those held out, and what was left out."""

    groups: list[ComparedAnswers]
    held_out: list[ComparedAnswers]
    report: EncodingReport

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches of `batch_size` prompts until each has been seen."""
        return -(-len(self.groups) // batch_size)


def prepare_comparisons(preferences: Sequence[Preference], tokenizer: Any, *, block_size: int, seed: int) -> Comparisons:
    """The preferences as ids; a tenth of the prompts is held out. ValueError for fewer than two prompts."""
    groups, report = encode_preferences(preferences, ChatFormat(tokenizer), block_size=block_size)
    if len(groups) < 2:
        raise ValueError(f"preferences: {report}, all of one prompt; at least two prompts are needed, to hold one out")
    n_held_out = max(1, len(groups) // 10)
    try:
        sides = hold_out(groups, n_held_out, seed=seed, content=lambda group: tokenizer.decode_bytes(group.prompt))
    except ValueError as error:
        raise ValueError(f"preferences: {report}; of their prompts {error}") from None
    return Comparisons(*sides, report)


@dataclass(frozen=True)
class RewardConfig:
    """The loss of a reward model, beside its training."""

    center_coefficient: float = 0.01  # keeps the mean reward near 0; see rlhf/reward_model.py
    margin_scale: float = 0.0  # times a pair's margin, the distance its rewards must keep; 0 = InstructGPT

    def __post_init__(self) -> None:
        for name in ("center_coefficient", "margin_scale"):
            check_number(self, name, low=0)


@dataclass(frozen=True)
class RewardTraining:
    """A reward model about to be trained: go through `records`, then call `finish`."""

    model: RewardModel
    records: Iterator[Any]
    finish: Callable[[], tuple[float, float]]  # normalises; held-out pair accuracy and its standard error


def train_reward(
    policy: GPT, comparisons: Comparisons, *, config: TrainConfig, run: RunFolder, reward_config: RewardConfig | None = None
) -> RewardTraining:
    """Step 2, second half: a copy of `policy` with a head learns the comparisons.

    `finish` sets mean 0 and deviation 1 on the compared answers, which the policy wrote.
    """
    loss_fn = partial(preference_loss, **vars(reward_config or RewardConfig()))
    model = RewardModel(copy.deepcopy(policy), rng=stream(config.seed, "reward head"))
    disable_dropout(model)
    rng = stream(config.seed, "order of compared prompts")
    source = PreferenceGroups(comparisons.groups, batch_size=config.batch_size, rng=rng)

    def finish() -> tuple[float, float]:
        accuracy = pair_accuracy(compare_pairs(model, comparisons.held_out))
        answers = [(group.prompt, answer) for group in comparisons.groups for answer in group.answers]
        normalise(model, pad_sequences([prompt for prompt, _ in answers], [answer for _, answer in answers]))
        return accuracy

    return RewardTraining(model, train(model, source, config=config, loss_fn=loss_fn, run=run), finish)


def finish_reward(model: RewardModel, comparisons: Comparisons, tokenizer: Any, *, run: RunFolder) -> None:
    """Write model/ and report.html, with what the model makes of the held-out pairs."""
    model.save_pretrained(run.path / "model", tokenizer)
    write_reward_report(run.path, measure_pairs(model, comparisons.held_out, chat=ChatFormat(tokenizer)))


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

    tokenizer: Any
    reward_model: RewardModel
    instructions: Sequence[Instruction]
    stories: Sequence[Story]
    seed: int = 0


def evaluate(name: str, model: GPT, test: TestSet, *, best_of: int = 1, same: Row | None = None) -> Row:
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


def _tasks(model: GPT, test: TestSet) -> tuple[tuple[float, float], dict[str, ExactMatch]]:
    """Share of right answers with its standard error, and the results kind by kind."""
    found = measure_exact_match(model, test.instructions, chat=ChatFormat(test.tokenizer), calculate=calculate)
    right = found.pop("all")
    return (right.accuracy, right.standard_error), found


def suggestions(row: Row, model: GPT, tokenizer: Any, *, seed: int) -> list[Instruction]:
    """Up to six questions of the test split, each of another kind: of those that the row's model has learned, and each of them
    one that it answers right again and again at the temperature of a chat. What it is not sure of it does not offer."""
    rng = stream(seed, "suggestions")
    found: list[Instruction] = []
    for kind in SUGGESTED:
        if len(found) < 6 and kind in row.by_kind and row.by_kind[kind].accuracy >= LEARNED:
            drawn = make_instructions(N_DRAWN, split="test", rng=rng, tasks=[kind])
            found += next(([item] for item in drawn if is_sure(model, tokenizer, item, rng=rng)), [])
    return found


def is_sure(model: GPT, tokenizer: Any, item: Instruction, *, rng: np.random.Generator, n: int = 10) -> bool:
    """Whether the model answers right n times of n, as in a chat."""
    config = GenerationConfig(max_new_tokens=48, temperature=TEMPERATURE)
    replies = (list(reply(model, tokenizer, item.prompt, config=config, rng=rng))[-1] for _ in range(n))
    return all(isinstance(last, Reply) and is_correct(item, last.text) for last in replies)

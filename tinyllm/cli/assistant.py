"""From base model to assistant, as functions: InstructGPT's three steps (Ouyang et al. 2022, figure 2).

    encode_demonstrations(conversations)     -> Demonstrations   as ids, some conversations held out
    tune(model, demonstrations, ...)         -> records          step 1: loss on the answer only
    label_stories(model, tokenizer, ...)     -> preferences      step 2: five answers of the model to each story, rated
    prepare_comparisons(preferences, ...)    -> Comparisons              as ids, some prompts held out
    train_reward(model, comparisons, ...)    -> RewardTraining           a model learns the taste
    Improvement(policy, reward_model, ...)   -> records          step 3: PPO, or another method, against that model
    evaluate(name, model, ...)               -> Row              what a step was good for, on the same test set

The verbs `finetune`, `reward`, `dpo` and `rl` are these with your data, `quickstart` with made ones: stories whose truth is
known, and a simulated labeler with a known taste (`data/news.py`, `rlhf/gold.py`). What comes before is in `stages.py`.
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

from tinyllm.data import PackedConversations, PaddedConversations, conversation_batches
from tinyllm.data.instructions import Instruction, make_instructions
from tinyllm.data.news import Story, make_summary, story_prompt
from tinyllm.data.preferences import Preference
from tinyllm.decoding import generate
from tinyllm.decoding.calculator import calculate
from tinyllm.evaluation.exact_match import measure_exact_match
from tinyllm.finetuning import answer_loss
from tinyllm.models import GPT
from tinyllm.models.heads import RewardModel, ValueModel
from tinyllm.nn.lora import add_lora, has_lora, merge_lora
from tinyllm.rlhf.actor_critic import ActorCritic
from tinyllm.rlhf.before_after import BeforeAfter, write_comparisons
from tinyllm.rlhf.comparisons import ComparedAnswers, EncodingReport, encode_preferences
from tinyllm.rlhf.gold import gold_reward
from tinyllm.rlhf.grpo import GRPO, GRPOConfig
from tinyllm.rlhf.label_items import write_items
from tinyllm.rlhf.label_pairs import pairs_from_labels
from tinyllm.rlhf.labels import LabelStore, read_labels
from tinyllm.rlhf.log_probs import WithoutAdapters
from tinyllm.rlhf.news_items import news_item, news_labeler
from tinyllm.rlhf.news_task import make_stories, sample_answers
from tinyllm.rlhf.policy_gradient import PolicyGradient, disable_dropout
from tinyllm.rlhf.ppo import PPO, PPOConfig
from tinyllm.rlhf.reinforce import RLOO, Reinforce, ReinforceConfig
from tinyllm.rlhf.reward_model import (
    PreferenceGroups,
    compare_pairs,
    normalise,
    pair_accuracy,
    preference_loss,
    score_sequences,
)
from tinyllm.rlhf.rollout import Sample, check_number
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import RunFolder, TrainConfig, train

NEWS_SHARE = 0.25  # of the made demonstrations
TURNS = (0.75, 0.17, 0.08)  # part of the made conversations with one question, two, three
N_COMPARED = 12  # prompts whose answers before and after go into the report

Conversation = list[dict[str, str]]
Encoded = tuple[list[int], list[bool]]


def make_demonstrations(n: int, *, seed: int) -> list[Conversation]:
    """n questions and answers in conversations: tasks with exact answers, and summaries of mixed quality, in random order."""
    rng = np.random.default_rng([seed, 10])
    n_news = int(n * NEWS_SHARE)
    conversations = [item.messages for item in make_instructions(n - n_news, split="train", rng=rng)]
    for story in make_stories(n_news, split="train", seed=seed + 1):
        conversations.append([*story_prompt(story), {"role": "assistant", "content": make_summary(story, rng)}])
    return _in_turns([conversations[i] for i in rng.permutation(len(conversations))], rng)


def _in_turns(conversations: list[Conversation], rng: np.random.Generator) -> list[Conversation]:
    """The same questions and answers, some of them one after the other in one conversation, as in a chat."""
    ends = np.cumsum(rng.choice(len(TURNS), size=len(conversations), p=TURNS) + 1)
    parts = [conversations[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < len(conversations)]
    return [[message for messages in part for message in messages] for part in parts]


def make_test(n: int, *, seed: int) -> list[Instruction]:
    """Instructions of the test split: other contents and other phrasings than those learned from."""
    return make_instructions(n, split="test", rng=np.random.default_rng([seed, 12]))


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
    """The conversations that fit the context, as ids; the first ones are held out. ValueError unless two are left."""
    encoded = [ChatFormat(tokenizer).encode(messages) for messages in conversations]
    fitting = [one for one in encoded if len(one[0]) <= block_size + 1]
    left_out = f"{len(encoded) - len(fitting):,} of {len(encoded):,} longer than the model's context of {block_size} tokens"
    left_out = left_out if len(fitting) < len(encoded) else ""
    if len(fitting) < 2:
        found = f"{len(encoded)} came{', ' * bool(left_out)}{left_out}"
        raise ValueError(f"conversations: {found}; at least two must fit, one to learn from and one to hold out")
    n_held_out = max(1, min(int(len(fitting) * validation_fraction), config.eval_batches * config.batch_size))
    return Demonstrations(fitting[n_held_out:], fitting[:n_held_out], left_out)


def tune(
    model: GPT, demonstrations: Demonstrations, *, config: TrainConfig, run: RunFolder, packing: bool = True
) -> Iterator[Any]:
    """Step 1: trains `model` on what the assistant says; yields the records."""
    shape = {"batch_size": config.batch_size, "block_size": model.config.block_size}
    source_class = PackedConversations if packing else PaddedConversations
    source = source_class(demonstrations.training, **shape, rng=np.random.default_rng([config.seed, 13]))
    evaluation = conversation_batches(demonstrations.held_out, **shape)
    yield from train(model, source, config=config, loss_fn=answer_loss, evaluation=evaluation, run=run)


def label_stories(
    model: GPT, tokenizer: Any, stories: Sequence[Story], *, folder: Path, seed: int, k: int = 5
) -> tuple[list[Preference], Any]:
    """Step 2: the model answers each story k times, the simulated labeler rates. (preferences, report).

    items.jsonl and labels.jsonl are left in `folder`, where `tinyllm label` shows the same answers to a person.
    """
    answers = sample_answers(model, tokenizer, stories, k=k, rng=np.random.default_rng([seed, 14]))
    items = [news_item(f"news-{i:04d}", story, own) for i, (story, own) in enumerate(zip(stories, answers, strict=True))]
    folder.mkdir(parents=True, exist_ok=True)
    write_items(folder / "items.jsonl", items)
    with LabelStore(folder / "labels.jsonl", items) as store:
        news_labeler("simulated", items, seed=seed).label_all(items, store)
    return pairs_from_labels(read_labels(folder / "labels.jsonl", items).newest(), items)


@dataclass(frozen=True)
class Comparisons:
    """Compared answers as ids: those to learn from, those held out, and what was left out."""

    groups: list[ComparedAnswers]
    held_out: list[ComparedAnswers]
    report: EncodingReport

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches of `batch_size` prompts until each has been seen."""
        return -(-len(self.groups) // batch_size)


def prepare_comparisons(preferences: Sequence[Preference], tokenizer: Any, *, block_size: int) -> Comparisons:
    """The preferences as ids; the first tenth of the prompts is held out. ValueError for fewer than two prompts."""
    groups, report = encode_preferences(preferences, ChatFormat(tokenizer), block_size=block_size)
    if len(groups) < 2:
        raise ValueError(f"preferences: {report}, all of one prompt; at least two prompts are needed, to hold one out")
    n_held_out = max(1, len(groups) // 10)
    return Comparisons(groups[n_held_out:], groups[:n_held_out], report)


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
    model = RewardModel(copy.deepcopy(policy), rng=np.random.default_rng([config.seed, 15]))
    disable_dropout(model)
    rng = np.random.default_rng([config.seed, 16])
    source = PreferenceGroups(comparisons.groups, batch_size=config.batch_size, rng=rng)

    def finish() -> tuple[float, float]:
        accuracy = pair_accuracy(compare_pairs(model, comparisons.held_out))
        answers = [(group.prompt, answer) for group in comparisons.groups for answer in group.answers]
        normalise(model, pad_sequences([prompt for prompt, _ in answers], [answer for _, answer in answers]))
        return accuracy

    return RewardTraining(model, train(model, source, config=config, loss_fn=loss_fn, run=run), finish)


@dataclass(frozen=True)
class RLConfig:
    """What all methods of step 3 share. The rest is each method's own default (rlhf/ppo.py, grpo.py, reinforce.py)."""

    n_answers: int = 64  # answers per round, to as many prompts (ppo) or to n_answers / group_size of them
    group_size: int = 4  # answers per prompt with grpo, rloo and reinforce
    max_new_tokens: int = 48  # longest answer, stop token included
    temperature: float = 1.0  # of sampling and of every log-probability
    minibatch_size: int = 32  # answers per optimizer step of ppo; the others take the whole round
    epochs: int = 2  # times ppo learns from each round; the others do once
    kl_coefficient: float = 0.05  # price of a nat of distance from where it began, in units of the reward
    missing_stop_score: float | None = None  # score of an answer that never ended, whatever the reward model says
    lora_rank: int = 0  # r of LoRA: the reference then shares the policy's weights; 0 = all weights are trained

    def __post_init__(self) -> None:
        for name in ("n_answers", "group_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank is {self.lora_rank}; expected 0 (train all weights) or more")

    def of_method(self, method: str) -> Any:
        """The config of "ppo", "grpo", "rloo" or "reinforce". ValueError for settings that make no sense with it."""
        names = ("max_new_tokens", "temperature", "kl_coefficient", "missing_stop_score")
        shared: dict[str, Any] = {name: getattr(self, name) for name in names}
        if method == "ppo":
            shared |= {"n_prompts": self.n_answers, "group_size": 1, "minibatch_size": self.minibatch_size, "epochs": self.epochs}
            return PPOConfig(**shared)
        if method != "reinforce" and self.group_size < 2:
            raise ValueError(f"group_size is {self.group_size}; {method} compares the answers to a prompt, so give at least 2")
        if self.n_answers % self.group_size:
            near = max(1, self.n_answers // self.group_size) * self.group_size
            raise ValueError(
                f"n_answers is {self.n_answers}; expected a multiple of group_size {self.group_size}, such as {near}"
            )
        shared |= {"n_prompts": self.n_answers // self.group_size, "group_size": self.group_size}
        kind = GRPOConfig if method == "grpo" else ReinforceConfig
        return kind(**shared, minibatch_size=self.n_answers, epochs=1)


def with_room(
    conversations: Sequence[Conversation], tokenizer: Any, *, block_size: int, max_new_tokens: int
) -> list[Conversation]:
    """The prompts after which an answer of max_new_tokens fits the context. ValueError for none, or one that is no prompt."""
    chat, kept, shortest = ChatFormat(tokenizer), [], math.inf
    for number, messages in enumerate(conversations, start=1):
        try:
            length = len(chat.prompt(messages))
        except ValueError as error:
            raise ValueError(f"prompts: number {number}: {error}") from None
        shortest = min(shortest, length)
        if length + max_new_tokens <= block_size:
            kept.append(messages)
    if not kept:
        found = f"the shortest has {shortest} tokens, and max_new_tokens {max_new_tokens} come behind it"
        raise ValueError(f"prompts: none leaves room for an answer in a context of {block_size}: {found}; shorten one of the two")
    return kept


class Improvement:
    """Step 3: change `policy` so that the reward model likes its answers, and pay for the distance to what it was.

    Where the prompts are stories, the gold reward is logged beside the reward model's score, for us; the policy never sees it.
    """

    def __init__(
        self, policy: GPT, reward_model: RewardModel, conversations: Sequence[Conversation], *, tokenizer: Any,
        stories: Sequence[Story] | None = None,
    ):  # fmt: skip
        self.policy, self.reward_model, self.stories = policy, reward_model, stories
        self.chat = ChatFormat(tokenizer)
        self.prompts = [self.chat.prompt(messages) for messages in conversations]
        self.texts = [messages[-1]["content"] for messages in conversations]
        self._before: list[list[int]] = []
        self._max_new_tokens = 0

    def score(self, samples: list[Sample]) -> np.ndarray:
        """The reward model's opinion of each answer."""
        pairs = pad_sequences([sample.prompt for sample in samples], [sample.response for sample in samples])
        return score_sequences(self.reward_model, pairs)

    def records(self, method: str, *, config: TrainConfig, rl_config: RLConfig, run: RunFolder) -> Iterator[Any]:
        """Trains; yields the records."""
        own, rng = rl_config.of_method(method), np.random.default_rng([config.seed, 17])
        self._max_new_tokens = own.max_new_tokens
        self._before = self._greedy()
        settings: dict[str, Any] = {"config": own, "stop_id": self.chat.end_id, "rng": rng}
        if rl_config.lora_rank:
            add_lora(self.policy, rank=rl_config.lora_rank, alpha=2.0 * rl_config.lora_rank, rng=rng)
            settings["reference"] = WithoutAdapters(self.policy)
        else:
            settings["reference"] = copy.deepcopy(self.policy)
        model: Any = self.policy
        algorithm: PolicyGradient
        if method == "ppo":
            model = ActorCritic(self.policy, ValueModel(copy.deepcopy(self.reward_model.trunk)))
            algorithm = PPO(model, self.prompts, self.score, **settings)
        else:
            kind: Any = {"grpo": GRPO, "rloo": RLOO, "reinforce": Reinforce}[method]
            algorithm = kind(self.policy, self.prompts, self.score, **settings)
        measure = partial(self._measure, algorithm)
        yield from train(model, algorithm, config=config, loss_fn=algorithm.loss, run=run, measure=measure)
        if has_lora(self.policy):
            merge_lora(self.policy)

    def _measure(self, algorithm: PolicyGradient) -> dict[str, float]:
        """The algorithm's metrics, and after a rollout the gold reward."""
        metrics = algorithm.measure()
        if self.stories and algorithm.rollout and "score" in metrics:
            metrics["gold"] = float(np.mean([self._gold(one.prompt_index, one.response) for one in algorithm.rollout.samples]))
        return metrics

    def _gold(self, index: int, response: Sequence[int]) -> float:
        assert self.stories is not None
        return gold_reward(self.stories[index], self.chat.parse(response)["content"])

    def _greedy(self) -> list[list[int]]:
        """The likeliest answers to the first prompts."""
        stops = (self.chat.end_id,)
        return generate(
            self.policy, self.prompts[:N_COMPARED], max_new_tokens=self._max_new_tokens, temperature=0, stop_tokens=stops
        ).tokens

    def write_comparisons(self, folder: Path) -> None:
        """Answers before and after training to the same prompts, for the report."""
        pairs = []
        for i, (before, after) in enumerate(zip(self._before, self._greedy(), strict=True)):
            values: list[Any] = [self.chat.parse(ids)["content"] for ids in (before, after)]
            values += map(float, self.score([Sample(i, self.prompts[i], ids, True) for ids in (before, after)]))
            values += [self._gold(i, ids) for ids in (before, after)] if self.stories else []
            pairs.append(BeforeAfter(self.texts[i], *values))
        write_comparisons(folder, pairs)


@dataclass(frozen=True)
class Row:
    """One model on the test set: (mean, standard error) of each measure."""

    name: str
    tasks: tuple[float, float]  # share of held-out tasks answered exactly
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


def evaluate(name: str, model: GPT, test: TestSet, *, best_of: int = 1) -> Row:
    """One model on held-out tasks (greedy) and stories (sampled at temperature 1); with `best_of` the reward model picks.

    Picking is for summaries only: of anything else the reward model has never seen a comparison.
    """
    chat, stories = ChatFormat(test.tokenizer), test.stories
    found = measure_exact_match(model, test.instructions, chat=chat, calculate=calculate)["all"]
    answers = sample_answers(model, test.tokenizer, stories, k=best_of, rng=np.random.default_rng([test.seed, 18]))
    prompts = [chat.prompt(story_prompt(story)) for story in stories for _ in range(best_of)]
    ids = [chat.answer(text) for own in answers for text in own]
    ids = [answer[: model.config.block_size - len(prompt)] for answer, prompt in zip(ids, prompts, strict=True)]
    scores = score_sequences(test.reward_model, pad_sequences(prompts, ids)).reshape(len(stories), best_of)
    chosen = [own[i] for own, i in zip(answers, scores.argmax(axis=1).tolist(), strict=True)]
    golds = [gold_reward(story, text) for story, text in zip(stories, chosen, strict=True)]
    words = float(np.mean([len(text.split()) for text in chosen]))
    tasks = (found.accuracy, found.standard_error)
    return Row(name, tasks, mean_and_error(golds), mean_and_error(scores.max(axis=1)), words, chosen[:6])

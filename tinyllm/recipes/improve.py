"""Reinforcement learning, InstructGPT's third step: a policy is changed so that a judge likes its answers (Ouyang et al. 2022).

    improve("runs/chat", ["questions.txt"], out="runs/ppo", reward_model="runs/reward")

Each round the model answers some prompts, the judge (a reward model, or a function of yours) scores the answers, and what scored
above expectation becomes likelier; every nat of distance from where it began has its price. Methods: ppo, grpo, rloo, reinforce.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.data.tasks.gold import gold_reward
from tinyllm.data.tasks.news import Story
from tinyllm.decoding import generate
from tinyllm.evaluation.before_after import BeforeAfter, write_comparisons
from tinyllm.models import Model, save_adapters
from tinyllm.models.heads import RewardModel, ValueModel
from tinyllm.nn.lora import add_lora, has_lora, merge_lora
from tinyllm.recipes.events import Record, Said, Show, silent, watched
from tinyllm.recipes.inputs import MODEL, Input, saved_inputs
from tinyllm.recipes.prompts import read_prompts
from tinyllm.recipes.runs import TrainedModel
from tinyllm.recipes.tuning import TUNING, ReadingConfig, begin, load_for_chat, load_judge, refuse_too_large, tuning_run
from tinyllm.report.rl import write_rl_report
from tinyllm.rlhf.actor_critic import ActorCritic
from tinyllm.rlhf.grpo import GRPO, GRPOConfig
from tinyllm.rlhf.log_probs import WithoutAdapters
from tinyllm.rlhf.policy_gradient import PolicyGradient
from tinyllm.rlhf.ppo import PPO, PPOConfig
from tinyllm.rlhf.reinforce import RLOO, Reinforce, ReinforceConfig
from tinyllm.rlhf.reward_function import load_reward_function
from tinyllm.rlhf.reward_model import score_sequences
from tinyllm.rlhf.rollout import RolloutConfig, Sample
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.storage.explain import suggestion
from tinyllm.storage.fields import check_whole, refuse
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import RunFolder, TrainConfig, train
from tinyllm.training.streams import stream

INPUTS = (
    MODEL,
    Input("prompts", "PROMPTS", "files"),
    Input("reward_model", "--reward-model", "model", required=False),
    Input("reward", "--reward", "function", required=False),
)
METHODS = ("ppo", "grpo", "rloo", "reinforce")
N_NEWS = 2000  # prompts made of the built-in news
N_COMPARED = 12  # prompts whose answers before and after go into the report
SHOWN = {"score": "score", "kl": "kl", "length": "length", "entropy": "entropy"}
TextReward = Callable[[Sequence[str], Sequence[str]], Sequence[float]]  # (prompts, answers) -> a number for each answer
Conversation = list[dict[str, str]]


@dataclass(frozen=True)
class RLConfig:
    """What all methods share; their own defaults stand in rlhf/ppo.py, grpo.py and reinforce.py."""

    n_answers: int = PPOConfig.n_prompts  # answers per round, to as many prompts (ppo) or to n_answers / group_size of them
    group_size: int = RolloutConfig.group_size  # answers per prompt with grpo, rloo and reinforce
    max_new_tokens: int = RolloutConfig.max_new_tokens  # longest answer, stop token included
    temperature: float = RolloutConfig.temperature  # of sampling and of every log-probability
    minibatch_size: int = PPOConfig.minibatch_size  # answers per optimizer step of ppo; the others take the whole round
    epochs: int = PPOConfig.epochs  # times ppo learns from each round; the others do once
    kl_coefficient: float = PPOConfig.kl_coefficient  # price of a nat of distance from where it began, in units of the reward
    missing_stop_score: float | None = None  # score of an answer that never ended, whatever the reward model says
    lora_rank: int = 0  # r of LoRA: the reference then shares the policy's weights; 0 = all weights are trained

    def __post_init__(self) -> None:
        check_whole(self, "n_answers", "group_size", low=1)
        check_whole(self, "lora_rank", low=0)

    def of_method(self, method: str) -> PPOConfig | GRPOConfig | ReinforceConfig:
        """The config of "ppo", "grpo", "rloo" or "reinforce". ValueError for settings that make no sense with it."""
        if method == "ppo":
            return PPOConfig(
                n_prompts=self.n_answers, group_size=1, minibatch_size=self.minibatch_size, epochs=self.epochs,
                max_new_tokens=self.max_new_tokens, temperature=self.temperature, kl_coefficient=self.kl_coefficient,
                missing_stop_score=self.missing_stop_score,
            )  # fmt: skip
        if method != "reinforce" and self.group_size < 2:
            raise ValueError(f"group_size is {self.group_size}; {method} compares the answers to a prompt, so give at least 2")
        if self.n_answers % self.group_size:
            near = max(1, self.n_answers // self.group_size) * self.group_size
            raise ValueError(
                f"n_answers is {self.n_answers}; expected a multiple of group_size {self.group_size}, such as {near}"
            )
        kind = GRPOConfig if method == "grpo" else ReinforceConfig
        return kind(
            n_prompts=self.n_answers // self.group_size, group_size=self.group_size, minibatch_size=self.n_answers, epochs=1,
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, kl_coefficient=self.kl_coefficient,
            missing_stop_score=self.missing_stop_score,
        )  # fmt: skip


@dataclass(frozen=True)
class ImproveSettings:
    """All settings of a run of `improve`."""

    rl: RLConfig = field(default_factory=RLConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    training: TrainConfig = replace(
        TUNING, learning_rate=2e-4, min_learning_rate=2e-5, max_steps=200, warmup_steps=5, epsilon=1e-5, eval_interval=0
    )


def improve(
    model: str | Path | None = None, prompts: Sequence[str] = (), *, out: str | Path, method: str | None = None,
    reward_model: str | Path | None = None, reward: str | None = None, settings: ImproveSettings | None = None,
    resume: bool = False, show: Show = silent,
) -> TrainedModel:  # fmt: skip
    """Improve a model on its own answers to the prompts in files; `out` gets model/, answers from before and after, report.html.

    prompts       text with one a line, .jsonl, or "news" for the built-in stories
    method        ppo (if None), grpo, rloo or reinforce
    reward_model  who scores: the folder of a reward model;  or reward: "FILE.py:NAME", a Python function
    """
    settings = settings or ImproveSettings()
    given = {"model": model, "prompts": prompts, "reward_model": reward_model, "reward": reward}
    start = begin(INPUTS, given, out=out, resume=resume, show=show)
    training, config, method = settings.training, settings.rl, _method(method, start.out, resume=resume)
    own = config.of_method(method)  # refuses what makes no sense, before anything is loaded
    file, folder = start.folder("reward"), start.folder("reward_model")
    if (file is None) == (folder is None):
        came = "neither came" if file is None else "both came, or one stands in the run that is resumed"
        raise ValueError(f"--reward-model and --reward: {came}; give one of them to say who scores the answers")
    function = load_reward_function(file) if file else None
    policy, tokenizer = load_for_chat(str(start.folder("model")), seed=training.seed)
    judge: RewardModel | TextReward = function or load_judge(str(folder), tokenizer=tokenizer)
    block_size = min(policy.config.block_size, judge.config.block_size if isinstance(judge, RewardModel) else math.inf)
    conversations = _read(start.files("prompts"), settings, show=show)
    kept = with_room(conversations, tokenizer, block_size=int(block_size), max_new_tokens=own.max_new_tokens)
    n_out = len(conversations) - len(kept)
    why = f"; left out: {n_out:,} with no room for an answer of {own.max_new_tokens} tokens in {block_size}"
    show(Said(f"Prompts: {len(kept):,}{why if n_out else ''}"))
    refuse_too_large(policy, rows=max(own.minibatch_size, config.n_answers // 4), name="n_answers and minibatch_size")
    with tuning_run(start, vars(settings), tokenizer=tokenizer, algorithm=method) as run:
        task = PolicyTraining(policy, judge, kept, tokenizer=tokenizer)
        records = task.records(method, config=training, rl_config=config, run=run)
        watched(records, show, label=method, total=training.max_steps, metrics=SHOWN)
        policy.save_pretrained(run.path / "model", tokenizer)
        task.write_comparisons(run.path)
        write_rl_report(run.path)
    return TrainedModel(start.out, policy, tokenizer)


def _method(given: str | None, out: Path, *, resume: bool) -> str:
    """The method that was given, or that of the run that is resumed, or ppo."""
    saved = saved_inputs(out).get("algorithm") if resume else None
    method = given or (str(saved) if saved in METHODS else METHODS[0])
    if method not in METHODS:
        refuse("method", method, f"one of {', '.join(METHODS)}", hint=suggestion(method, METHODS))
    return method


def _read(files: Sequence[str], settings: ImproveSettings, *, show: Show) -> list[Conversation]:
    """The prompts of all files."""
    rng, roles = stream(settings.training.seed, "prompts"), settings.reading.roles
    read = [read_prompts(path, n=N_NEWS if path == "news" else None, rng=rng, roles=roles, show=show) for path in files]
    return [prompt.messages for prompts in read for prompt in prompts]


def with_room(
    conversations: Sequence[Conversation], tokenizer: Tokenizer, *, block_size: int, max_new_tokens: int
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
        advice = "shorten one of the two, or begin with a model trained with a longer context (tinyllm train --block-size N)"
        raise ValueError(f"prompts: none leaves room for an answer in a context of {block_size}: {found}; {advice}")
    return kept


class PolicyTraining:
    """Change `policy` so that the judge likes its answers, and pay for the distance to what it was.

    Where the prompts are stories, the gold reward is logged beside the reward model's score, for us; the policy never sees it.
    """

    def __init__(
        self, policy: Model, judge: RewardModel | TextReward, conversations: Sequence[Conversation], *, tokenizer: Tokenizer,
        stories: Sequence[Story] | None = None,
    ):  # fmt: skip
        if stories is not None and len(stories) != len(conversations):
            raise ValueError(f"{len(stories)} stories came with {len(conversations)} conversations; expected one for each")
        self.policy, self.judge, self.stories = policy, judge, stories
        self.chat = ChatFormat(tokenizer)
        self.prompts = [self.chat.prompt(messages) for messages in conversations]
        self.texts = [messages[-1]["content"] for messages in conversations]
        self._before: list[list[int]] = []
        self._max_new_tokens = 0

    def score(self, samples: list[Sample]) -> np.ndarray:
        """The judge's opinion of each answer: a reward model reads ids, a function gets the texts."""
        if not isinstance(self.judge, RewardModel):
            answers = [self.chat.parse(sample.response)["content"] for sample in samples]
            return np.array(self.judge([self.texts[sample.prompt_index] for sample in samples], answers), np.float64)
        pairs = pad_sequences([sample.prompt for sample in samples], [sample.response for sample in samples])
        return score_sequences(self.judge, pairs)

    def records(self, method: str, *, config: TrainConfig, rl_config: RLConfig, run: RunFolder) -> Iterator[Record]:
        """Trains; yields the records."""
        own = rl_config.of_method(method)
        self._max_new_tokens = own.max_new_tokens
        self._before = self._greedy()
        value_trunk = copy.deepcopy(self.judge.trunk if isinstance(self.judge, RewardModel) else self.policy)
        reference: Model | WithoutAdapters
        if rl_config.lora_rank:
            rng = stream(config.seed, "adapters of the policy")
            add_lora(self.policy, rank=rl_config.lora_rank, alpha=2.0 * rl_config.lora_rank, rng=rng)
            reference = WithoutAdapters(self.policy)
        else:
            reference = copy.deepcopy(self.policy)
        algorithm: PolicyGradient

        def judge(samples: list[Sample]) -> np.ndarray:
            if self.stories:
                algorithm.note(gold=np.mean([self._gold(one.prompt_index, one.response) for one in samples]))
            return self.score(samples)

        model: Model | ActorCritic = ActorCritic(self.policy, ValueModel(value_trunk)) if method == "ppo" else self.policy
        kind: Any = {"ppo": PPO, "grpo": GRPO, "rloo": RLOO, "reinforce": Reinforce}[method]
        rng = stream(config.seed, "rollouts")
        algorithm = kind(model, self.prompts, judge, config=own, stop_id=self.chat.end_id, rng=rng, reference=reference)
        yield from train(model, algorithm, config=config, loss_fn=algorithm.loss, run=run, measure=algorithm.measure)
        if has_lora(self.policy):
            save_adapters(self.policy, run.path / "adapters")
            merge_lora(self.policy)

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

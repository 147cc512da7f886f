"""Step 3 of InstructGPT as functions: change a policy so that the reward model likes its answers (Ouyang et al. 2022, figure 2).

    with_room(conversations, tokenizer, ...)  -> prompts that leave room for an answer
    Improvement(policy, judge, ...)           -> records, by PPO, GRPO, RLOO or REINFORCE; answers before and after

The verb `rl` is this with your prompts, `quickstart` with made stories. Steps 1 and 2 are in `assistant.py`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.data.tasks.gold import gold_reward
from tinyllm.data.tasks.news import Story
from tinyllm.decoding import generate
from tinyllm.evaluation.before_after import BeforeAfter, write_comparisons
from tinyllm.models import GPT, save_adapters
from tinyllm.models.heads import RewardModel, ValueModel
from tinyllm.nn.lora import add_lora, has_lora, merge_lora
from tinyllm.rlhf.actor_critic import ActorCritic
from tinyllm.rlhf.grpo import GRPO, GRPOConfig
from tinyllm.rlhf.log_probs import WithoutAdapters
from tinyllm.rlhf.policy_gradient import PolicyGradient
from tinyllm.rlhf.ppo import PPO, PPOConfig
from tinyllm.rlhf.reinforce import RLOO, Reinforce, ReinforceConfig
from tinyllm.rlhf.reward_model import score_sequences
from tinyllm.rlhf.rollout import Sample
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import RunFolder, TrainConfig, train
from tinyllm.training.streams import stream

TextReward = Callable[[Sequence[str], Sequence[str]], Sequence[float]]  # (prompts, answers) -> a number for each answer
N_COMPARED = 12  # prompts whose answers before and after go into the report


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
    conversations: Sequence[list[dict[str, str]]], tokenizer: Any, *, block_size: int, max_new_tokens: int
) -> list[list[dict[str, str]]]:
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


class Improvement:
    """Step 3: change `policy` so that the judge likes its answers, and pay for the distance to what it was.

    Where the prompts are stories, the gold reward is logged beside the reward model's score, for us; the policy never sees it.
    """

    def __init__(
        self, policy: GPT, judge: RewardModel | TextReward, conversations: Sequence[list[dict[str, str]]], *, tokenizer: Any,
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

    def records(self, method: str, *, config: TrainConfig, rl_config: RLConfig, run: RunFolder) -> Iterator[Any]:
        """Trains; yields the records."""
        own = rl_config.of_method(method)
        self._max_new_tokens = own.max_new_tokens
        self._before = self._greedy()
        settings: dict[str, Any] = {"config": own, "stop_id": self.chat.end_id, "rng": stream(config.seed, "rollouts")}
        value_trunk = copy.deepcopy(self.judge.trunk if isinstance(self.judge, RewardModel) else self.policy)
        if rl_config.lora_rank:
            rng = stream(config.seed, "adapters of the policy")
            add_lora(self.policy, rank=rl_config.lora_rank, alpha=2.0 * rl_config.lora_rank, rng=rng)
            settings["reference"] = WithoutAdapters(self.policy)
        else:
            settings["reference"] = copy.deepcopy(self.policy)
        model: Any = self.policy
        algorithm: PolicyGradient

        def judge(samples: list[Sample]) -> np.ndarray:
            if self.stories:
                algorithm.note(gold=np.mean([self._gold(one.prompt_index, one.response) for one in samples]))
            return self.score(samples)

        if method == "ppo":
            model = ActorCritic(self.policy, ValueModel(value_trunk))
            algorithm = PPO(model, self.prompts, judge, **settings)
        else:
            kind: Any = {"grpo": GRPO, "rloo": RLOO, "reinforce": Reinforce}[method]
            algorithm = kind(self.policy, self.prompts, judge, **settings)
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

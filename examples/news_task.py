"""The task that examples 09 to 11 share: summarise small news, as a simulated person likes it.

    demonstrations -> SFT model -> K answers a story -> labels -> reward model -> PPO          (Ouyang et al. 2022, figure 2)
                                                            \\-> DPO

One function a step, each a few lines over the library, so that reward models, PPO, DPO and best-of-n start from the same model
and are judged on the same stories. Everything follows from the seed. Sizes are such that the whole takes minutes on a CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinyllm.data.conversations.packing import PaddedConversations
from tinyllm.data.conversations.preferences import Preference
from tinyllm.data.tasks.gold import gold_reward
from tinyllm.data.tasks.news import Story, make_stories, make_summary, story_prompt
from tinyllm.labels.news_items import news_item, news_labeler
from tinyllm.labels.pairs import pairs_from_labels
from tinyllm.models import GPT, GPTConfig, RewardModel
from tinyllm.pretraining import next_token_loss
from tinyllm.recipes.label import sample_answers
from tinyllm.rlhf.comparisons import encode_preferences
from tinyllm.rlhf.policy_gradient import disable_dropout
from tinyllm.rlhf.reward_model import PreferenceGroups, normalise, preference_loss
from tinyllm.rlhf.sequences import Sequences, pad_sequences
from tinyllm.tokenizers import END_OF_TEXT, BPETokenizer, Tokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS, ChatFormat
from tinyllm.training import TrainConfig, train

BLOCK_SIZE = 96  # room for the longest request, 54 tokens, and the longest demonstration
Show = Callable[[Any], None]  # what is done with each training record


def news_tokenizer(*, n_stories: int = 2000, seed: int = 0) -> BPETokenizer:
    """A BPE tokenizer with the chat's control tokens. The world is so small that every word of it becomes one token."""
    rng = np.random.default_rng(seed)
    texts = [f"{story.request}\n{make_summary(story, rng)}" for story in make_stories(n_stories, split="train", seed=seed)]
    return BPETokenizer.train(texts, vocab_size=1024, pattern="qwen2", special_tokens=(END_OF_TEXT, *CONTROL_TOKENS))


def demonstrations(chat: ChatFormat, n: int, *, seed: int) -> list[tuple[list[int], list[bool]]]:
    """`n` stories with a summary of mixed quality each, as (ids, loss mask), the mask True for the summary."""
    rng = np.random.default_rng(seed)
    stories = make_stories(n, split="train", seed=seed)
    return [chat.encode([*story_prompt(story), _answer(make_summary(story, rng))]) for story in stories]


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def sft_news_model(*, steps: int = 600, seed: int = 0, show: Show = lambda record: None) -> tuple[GPT, BPETokenizer]:
    """A GPT of 0.7 million weights, trained on demonstrations alone from the start; in eval mode, with its tokenizer.

    It writes in the right manner after 100 steps, and learns only later to copy names and numbers out of the story: it makes
    something up in nine of ten answers after 200 steps, in four after 600, in one after 1000 (at temperature 1).
    """
    tokenizer = news_tokenizer(seed=seed)
    rng = np.random.default_rng(seed)
    shape: dict[str, Any] = {"n_layers": 3, "n_heads": 4, "d_model": 128, "init_std": 0.05, "bias": False}
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=BLOCK_SIZE, **shape), rng=rng)
    encoded = demonstrations(ChatFormat(tokenizer), min(8000, 16 * steps), seed=seed)
    source = PaddedConversations(encoded, batch_size=16, block_size=BLOCK_SIZE, rng=rng)
    config = settings(steps=steps, batch_size=16, learning_rate=4e-3, seed=seed)
    for record in train(model, source, config=config, loss_fn=next_token_loss):
        show(record)
    model.eval()
    return model, tokenizer


def settings(*, steps: int, batch_size: int, learning_rate: float, seed: int) -> TrainConfig:
    """A short run: a tenth of warm-up, then down to 0; no evaluation, no checkpoint on the way."""
    return TrainConfig(
        max_steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        min_learning_rate=0.0,
        warmup_steps=min(50, steps // 10),
        beta2=0.98,
        eval_interval=0,
        checkpoint_interval=0,
        seed=seed,
    )


def gold_rewards(stories: Sequence[Story], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """The gold reward of each story's answers, (stories, K)."""
    return np.array([[gold_reward(story, text) for text in texts] for story, texts in zip(stories, answers, strict=True)])


def label(
    stories: Sequence[Story], answers: Sequence[Sequence[str]], *, noise: float = 0.5, seed: int = 0, name: str = "simulated"
) -> list[Preference]:
    """All comparisons that a simulated labeler makes of each story's answers; pairs of one story stand together.

    noise  standard deviation of what the labeler adds to the gold reward of each answer
    """
    named = enumerate(zip(stories, answers, strict=True))
    items = [news_item(f"news-{seed}-{number:05d}", story, texts) for number, (story, texts) in named]
    labeler = news_labeler(name, items, noise=noise, seed=seed)
    return pairs_from_labels({one.place: one for one in map(labeler.label, items)}, items)[0]


def answer_sequences(tokenizer: Tokenizer, stories: Sequence[Story], answers: Sequence[Sequence[str]]) -> Sequences:
    """Every answer behind its story's prompt, as ids; an answer that fills the context is cut there."""
    chat = ChatFormat(tokenizer)
    prompts = [chat.prompt(story_prompt(story)) for story, texts in zip(stories, answers, strict=True) for _ in texts]
    texts = [text for own in answers for text in own]
    return pad_sequences(prompts, [chat.answer(text)[: BLOCK_SIZE - len(p)] for text, p in zip(texts, prompts, strict=True)])


def train_reward_model(
    model: GPT,
    tokenizer: Tokenizer,
    preferences: Sequence[Preference],
    *,
    seed: int = 0,
    batch_size: int = 6,
    max_steps: int | None = None,
    show: Show = lambda record: None,
) -> RewardModel:
    """A reward model that starts from a copy of the SFT model and sees each story's comparisons once.

    Not normalised yet: `normalise_reward_model` does that.
    """
    groups, _ = encode_preferences(preferences, ChatFormat(tokenizer), block_size=BLOCK_SIZE)
    rng = np.random.default_rng(seed)
    reward_model = RewardModel(copy.deepcopy(model), rng=rng)
    disable_dropout(reward_model)
    source = PreferenceGroups(groups, batch_size=batch_size, rng=rng)
    steps = min(source.steps_per_epoch, max_steps or source.steps_per_epoch)
    config = settings(steps=steps, batch_size=batch_size, learning_rate=1e-3, seed=seed)
    loss_fn = partial(preference_loss, center_coefficient=0.01)
    for record in train(reward_model, source, config=config, loss_fn=loss_fn):
        show(record)
    reward_model.eval()
    return reward_model


def normalise_reward_model(
    reward_model: RewardModel, reference: GPT, tokenizer: Tokenizer, *, seed: int = 0, n_stories: int = 256
) -> tuple[float, float]:
    """Mean 0 and deviation 1 on the reference policy's answers to new stories; returns what they had before."""
    stories = make_stories(n_stories, split="train", seed=seed + 1)
    answers = sample_answers(reference, tokenizer, stories, k=1, rng=np.random.default_rng(seed))
    return normalise(reward_model, answer_sequences(tokenizer, stories, answers))

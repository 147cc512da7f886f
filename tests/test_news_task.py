"""The examples' shared task: everything follows from the seed, answers fit the context, labels follow the truth."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tinyllm.data.tasks.gold import gold_reward
from tinyllm.data.tasks.news import PADDING, make_stories, make_summary
from tinyllm.recipes.label import MAX_NEW_TOKENS, sample_answers
from tinyllm.rlhf.reward_model import score_sequences
from tinyllm.tokenizers.chat import ChatFormat

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # as when an example is run as a script
from news_task import (  # noqa: E402
    BLOCK_SIZE,
    answer_sequences,
    demonstrations,
    gold_rewards,
    label,
    news_tokenizer,
    normalise_reward_model,
    sft_news_model,
    train_reward_model,
)  # fmt: skip


@pytest.fixture(scope="module")
def sft():
    return sft_news_model(steps=3)


def test_every_request_and_summary_fits_the_context_in_both_splits():
    tokenizer = news_tokenizer(n_stories=500)
    chat, rng = ChatFormat(tokenizer), np.random.default_rng(0)
    for split in ("train", "test"):
        for story in make_stories(500, split=split, seed=5):
            summary = f"{make_summary(story, rng)}"
            answer = chat.answer(summary)
            prompt = chat.prompt([{"role": "user", "content": story.request}])
            assert len(prompt) + MAX_NEW_TOKENS <= BLOCK_SIZE
            assert len(answer) <= MAX_NEW_TOKENS, summary
    assert len(tokenizer.encode(PADDING[0])) < 30


def test_a_fact_of_the_test_split_costs_no_more_tokens_than_words():
    tokenizer = news_tokenizer(n_stories=500)
    for story in make_stories(100, split="test", seed=5):
        assert len(tokenizer.encode(" " + story.place)) == 2 and len(tokenizer.encode(" " + story.count)) == 2


def test_the_same_seed_makes_the_same_model(sft):
    again, tokenizer = sft_news_model(steps=3)
    assert tokenizer.fingerprint() == sft[1].fingerprint()
    state = again.state_dict()
    assert all(np.array_equal(array, state[name]) for name, array in sft[0].state_dict().items())
    assert not sft[0].training


def test_demonstrations_count_the_answer_and_its_end(sft):
    ids, mask = demonstrations(ChatFormat(sft[1]), 1, seed=0)[0]
    assert ids[-1] == ChatFormat(sft[1]).end_id and mask[-1] and not mask[0]


def test_answers_come_k_for_each_story_and_can_be_scored(sft):
    model, tokenizer = sft
    stories = make_stories(3, split="test", seed=1)
    answers = sample_answers(model, tokenizer, stories, k=2, rng=np.random.default_rng(0))
    assert [len(texts) for texts in answers] == [2, 2, 2]
    assert gold_rewards(stories, answers)[2, 1] == gold_reward(stories[2], answers[2][1])
    sequences = answer_sequences(tokenizer, stories, answers)
    assert len(sequences) == 6 and sequences.tokens.shape[1] <= BLOCK_SIZE


def demonstrated(n, k, seed):
    rng = np.random.default_rng(seed)
    stories = make_stories(n, split="train", seed=seed)
    return stories, [[make_summary(story, rng) for _ in range(k)] for story in stories]


def test_a_labeler_without_noise_follows_the_truth():
    stories, answers = demonstrated(20, 4, 0)
    by_request = {story.request: story for story in stories}
    pairs = label(stories, answers, noise=0.0)
    assert len(pairs) > 60
    for pair in pairs:
        story = by_request[pair.prompt[0]["content"]]
        assert gold_reward(story, pair.chosen) > gold_reward(story, pair.rejected)


def test_noise_turns_some_labels_around_and_another_name_makes_other_noise():
    stories, answers = demonstrated(20, 4, 0)
    one, same, other = (label(stories, answers, noise=0.5, name=name) for name in ("anna", "anna", "ben"))
    assert one == same
    assert {(p.chosen, p.rejected) for p in one} != {(p.chosen, p.rejected) for p in other}


def test_a_reward_model_is_trained_from_a_copy_and_normalised_on_the_policys_answers(sft):
    model, tokenizer = sft
    before = {name: array.copy() for name, array in model.state_dict().items()}
    stories, answers = demonstrated(12, 3, 1)
    reward_model = train_reward_model(model, tokenizer, label(stories, answers), batch_size=6)
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    normalise_reward_model(reward_model, model, tokenizer, n_stories=16)
    stories = make_stories(16, split="train", seed=1)  # those it was normalised on
    sampled = sample_answers(model, tokenizer, stories, k=1, rng=np.random.default_rng(0))
    rewards = score_sequences(reward_model, answer_sequences(tokenizer, stories, sampled))
    assert rewards.mean() == pytest.approx(0, abs=1e-4) and rewards.std() == pytest.approx(1, abs=1e-3)

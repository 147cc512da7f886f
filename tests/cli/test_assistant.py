"""The steps from base model to assistant as functions: what they are given, what they refuse, what they leave out."""

import copy
import json

import numpy as np
import pytest

from tinyllm.cli import assistant
from tinyllm.cli.tuning import load_for_chat
from tinyllm.data.news import story_prompt
from tinyllm.data.preferences import Preference
from tinyllm.models import RewardModel
from tinyllm.rlhf.news_task import make_stories
from tinyllm.training import TrainConfig, open_run, read_records

HI = [{"role": "user", "content": "Hi"}]


def config(**settings):
    return TrainConfig(**{"max_steps": 2, "warmup_steps": 0, "batch_size": 2, "eval_batches": 1, **settings})


@pytest.fixture(scope="module")
def wide(byte_model):
    """(model, tokenizer), with room for a story."""
    return load_for_chat(str(byte_model("wide", block_size=512)), seed=1)


def test_demonstrations_follow_from_the_seed_and_a_quarter_is_news():
    one, same, other = (assistant.make_demonstrations(40, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    asked = [message["content"] for messages in one for message in messages if message["role"] == "user"]
    assert len(asked) == 40 and all(messages[-1]["role"] == "assistant" for messages in one)
    prompts = {story_prompt(story)[-1]["content"] for story in make_stories(10, split="train", seed=2)}
    assert sum(text in prompts for text in asked) == 10


def test_no_test_task_is_a_demonstration():
    learned = assistant.make_demonstrations(400, seed=1)
    asked = {message["content"] for messages in learned for message in messages if message["role"] == "user"}
    assert not asked & {item.messages[0]["content"] for item in assistant.make_test(200, seed=1)}


def test_conversations_are_held_out_and_those_too_long_told(wide):
    _, tokenizer = wide
    short = [[*HI, {"role": "assistant", "content": str(i)}] for i in range(9)]
    long = [*HI, {"role": "assistant", "content": "x" * 600}]
    found = assistant.encode_demonstrations(
        [long, *short], tokenizer, block_size=512, config=config(), validation_fraction=0.3
    )
    assert (len(found.training), len(found.held_out), found.n) == (7, 2, 9)
    assert found.left_out == "1 of 10 longer than the model's context of 512 tokens"
    with pytest.raises(ValueError, match="conversations: 2 came, 1 of 2 longer than .*; at least two must fit"):
        assistant.encode_demonstrations([long, short[0]], tokenizer, block_size=512, config=config())


def test_one_evaluation_holds_no_more_than_its_batches(wide):
    conversations = [[*HI, {"role": "assistant", "content": str(i)}] for i in range(100)]
    found = assistant.encode_demonstrations(conversations, wide[1], block_size=512, config=config(), validation_fraction=0.5)
    assert len(found.held_out) == 2  # one batch of two


def test_a_prompt_is_held_out_with_all_its_pairs(wide):
    pairs = [Preference([{"role": "user", "content": f"Q{i % 5}"}], f"a{i}", "b") for i in range(20)]
    found = assistant.prepare_comparisons(pairs, wide[1], block_size=512)
    assert (len(found.groups), len(found.held_out), len(found.held_out[0].pairs)) == (4, 1, 4)
    assert [found.steps_per_epoch(size) for size in (1, 3, 4)] == [4, 2, 1]
    with pytest.raises(ValueError, match="all of one prompt; at least two prompts are needed"):
        assistant.prepare_comparisons(pairs[::5], wide[1], block_size=512)


def test_prompts_without_room_are_left_out_and_wrong_ones_named(wide):
    _, tokenizer = wide
    long = [{"role": "user", "content": "x" * 500}]
    shape = {"block_size": 512, "max_new_tokens": 20}
    assert assistant.with_room([long, HI], tokenizer, **shape) == [HI]
    assert assistant.with_room([long], tokenizer, block_size=512, max_new_tokens=8) == [long]  # 504 and 8
    with pytest.raises(ValueError, match="none leaves room for an answer in a context of 512: the shortest has 504 tokens"):
        assistant.with_room([long], tokenizer, block_size=512, max_new_tokens=9)
    with pytest.raises(ValueError, match="prompts: number 2: messages"):
        assistant.with_room([HI, [*HI, {"role": "assistant", "content": "Hello"}]], tokenizer, **shape)


@pytest.mark.parametrize("method", ["ppo", "grpo", "rloo", "reinforce"])
def test_each_method_gets_the_same_number_of_answers(method):
    own = assistant.RLConfig(n_answers=12, group_size=3).of_method(method)
    assert own.n_prompts * own.group_size == 12
    assert own.group_size == (1 if method == "ppo" else 3)


def test_group_sizes_are_checked_where_they_matter():
    for method in ("grpo", "rloo"):
        with pytest.raises(ValueError, match=f"group_size is 1; {method} compares"):
            assistant.RLConfig(group_size=1).of_method(method)
        with pytest.raises(ValueError, match="n_answers is 7; expected a multiple of group_size 3, such as 6"):
            assistant.RLConfig(n_answers=7, group_size=3).of_method(method)
        with pytest.raises(ValueError, match="n_answers is 2; expected a multiple of group_size 3, such as 3"):
            assistant.RLConfig(n_answers=2, group_size=3).of_method(method)
    assert assistant.RLConfig(n_answers=7, group_size=3).of_method("ppo").n_prompts == 7
    assert assistant.RLConfig(n_answers=7, group_size=1).of_method("reinforce").n_prompts == 7


@pytest.mark.parametrize("name", ["center_coefficient", "margin_scale"])
def test_settings_of_the_reward_loss_are_finite(name):
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            assistant.RewardConfig(**{name: value})


def test_answers_to_stories_are_rated_and_the_same_answers_can_be_rated_by_people(wide, tmp_path):
    model, tokenizer = wide
    stories = make_stories(3, split="train", seed=1)
    preferences, report = assistant.label_stories(model, tokenizer, stories, folder=tmp_path, seed=1, k=3)
    assert len(preferences) == report.n_pairs <= 9
    assert len((tmp_path / "items.jsonl").read_text().splitlines()) == 3
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) >= 3


def test_the_gold_reward_of_stories_is_logged_and_compared(wide, tmp_path):
    policy, tokenizer = wide
    stories = make_stories(4, split="train", seed=1)
    judge = RewardModel(copy.deepcopy(policy), rng=np.random.default_rng(0))
    rl_config = assistant.RLConfig(n_answers=4, group_size=2, max_new_tokens=4, minibatch_size=4)
    with open_run(tmp_path, settings={"training": config()}, tokenizer=tokenizer) as run:
        task = assistant.Improvement(
            copy.deepcopy(policy), judge, [story_prompt(story) for story in stories], tokenizer=tokenizer, stories=stories
        )
        list(task.records("ppo", config=config(), rl_config=rl_config, run=run))
        task.write_comparisons(tmp_path)
    steps = [record for record in read_records(tmp_path / "metrics.jsonl") if record["event"] == "step"]
    assert "gold" in steps[0] and "gold" not in steps[1]  # of a rollout, not of a step
    first = json.loads((tmp_path / "comparisons.jsonl").read_text().splitlines()[0])
    assert first["gold_before"] is not None and first["prompt"] == story_prompt(stories[0])[-1]["content"]


def test_the_best_of_several_scores_no_lower_than_one(wide):
    model, tokenizer = wide
    judge = RewardModel(copy.deepcopy(model), rng=np.random.default_rng(0))
    stories = make_stories(4, split="test", seed=1)
    test = assistant.TestSet(tokenizer, judge, assistant.make_test(3, seed=1), stories, seed=1)
    one, best = (assistant.evaluate("name", model, test, best_of=k) for k in (1, 4))
    assert best.score[0] >= one.score[0] and one.tasks == best.tasks
    assert len(one.examples) == 4

"""Step 3 as functions: prompts with room, settings that make sense with their method, what is logged and compared."""

import copy
import json

import numpy as np
import pytest

from tinyllm.data.tasks.news import make_stories, story_prompt
from tinyllm.models import RewardModel
from tinyllm.recipes import improve as improvement
from tinyllm.training import TrainConfig, open_run, read_records

HI = [{"role": "user", "content": "Hi"}]


def config(**settings):
    return TrainConfig(**{"max_steps": 2, "warmup_steps": 0, "batch_size": 2, "eval_batches": 1, **settings})


def test_prompts_without_room_are_left_out_and_wrong_ones_named(wide):
    _, tokenizer = wide
    long = [{"role": "user", "content": "x" * 500}]
    shape = {"block_size": 512, "max_new_tokens": 20}
    assert improvement.with_room([long, HI], tokenizer, **shape) == [HI]
    assert improvement.with_room([long], tokenizer, block_size=512, max_new_tokens=8) == [long]  # 504 and 8
    with pytest.raises(ValueError, match="none leaves room for an answer in a context of 512: the shortest has 504 tokens"):
        improvement.with_room([long], tokenizer, block_size=512, max_new_tokens=9)
    with pytest.raises(ValueError, match="prompts: number 2: messages"):
        improvement.with_room([HI, [*HI, {"role": "assistant", "content": "Hello"}]], tokenizer, **shape)


@pytest.mark.parametrize("method", ["ppo", "grpo", "rloo", "reinforce"])
def test_each_method_gets_the_same_number_of_answers(method):
    own = improvement.RLConfig(n_answers=12, group_size=3).of_method(method)
    assert own.n_prompts * own.group_size == 12
    assert own.group_size == (1 if method == "ppo" else 3)


def test_group_sizes_are_checked_where_they_matter():
    for method in ("grpo", "rloo"):
        with pytest.raises(ValueError, match=f"group_size is 1; {method} compares"):
            improvement.RLConfig(group_size=1).of_method(method)
        with pytest.raises(ValueError, match="n_answers is 7; expected a multiple of group_size 3, such as 6"):
            improvement.RLConfig(n_answers=7, group_size=3).of_method(method)
        with pytest.raises(ValueError, match="n_answers is 2; expected a multiple of group_size 3, such as 3"):
            improvement.RLConfig(n_answers=2, group_size=3).of_method(method)
    assert improvement.RLConfig(n_answers=7, group_size=3).of_method("ppo").n_prompts == 7
    assert improvement.RLConfig(n_answers=7, group_size=1).of_method("reinforce").n_prompts == 7


def test_the_gold_reward_of_stories_is_logged_and_compared(wide, tmp_path):
    policy, tokenizer = wide
    stories = make_stories(4, split="train", seed=1)
    judge = RewardModel(copy.deepcopy(policy), rng=np.random.default_rng(0))
    rl_config = improvement.RLConfig(n_answers=4, group_size=2, max_new_tokens=4, minibatch_size=4)
    with open_run(tmp_path, settings={"training": config()}, tokenizer=tokenizer) as run:
        task = improvement.PolicyTraining(
            copy.deepcopy(policy), judge, [story_prompt(story) for story in stories], tokenizer=tokenizer, stories=stories
        )
        list(task.records("ppo", config=config(), rl_config=rl_config, run=run))
        task.write_comparisons(tmp_path)
    steps = [record for record in read_records(tmp_path / "metrics.jsonl") if record["event"] == "step"]
    assert "gold" in steps[0] and "gold" not in steps[1]  # of a rollout, not of a step
    first = json.loads((tmp_path / "comparisons.jsonl").read_text().splitlines()[0])
    assert first["gold_before"] is not None and first["prompt"] == story_prompt(stories[0])[-1]["content"]

"""The steps from base model to assistant as functions: what they are given, what they refuse, what they leave out."""

import copy
import json

import numpy as np
import pytest

from tinyllm.chat import Reply
from tinyllm.data.conversations.preferences import Preference
from tinyllm.data.tasks.instructions import make_instructions
from tinyllm.data.tasks.news import make_stories, story_prompt
from tinyllm.evaluation.exact_match import ExactMatch
from tinyllm.labels.store import read_labels
from tinyllm.models import RewardModel
from tinyllm.recipes import compare
from tinyllm.recipes.demonstrations import encode_demonstrations, make_demonstrations
from tinyllm.recipes.label import label_stories
from tinyllm.recipes.reward import RewardConfig, prepare_comparisons
from tinyllm.storage import strict_json
from tinyllm.training import TrainConfig

HI = [{"role": "user", "content": "Hi"}]


def config(**settings):
    return TrainConfig(**{"max_steps": 2, "warmup_steps": 0, "batch_size": 2, "eval_batches": 1, **settings})


def test_demonstrations_follow_from_the_seed_and_a_fifth_is_news():
    one, same, other = (make_demonstrations(40, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    asked = [message["content"] for messages in one for message in messages if message["role"] == "user"]
    assert len(asked) == 40 and all(messages[-1]["role"] == "assistant" for messages in one)
    prompts = {story_prompt(story)[-1]["content"] for story in make_stories(8, split="train", seed=2)}
    assert sum(text in prompts for text in asked) == 8


def test_no_test_task_is_a_demonstration():
    learned = make_demonstrations(400, seed=1)
    asked = {message["content"] for messages in learned for message in messages if message["role"] == "user"}
    assert not asked & {item.messages[0]["content"] for item in compare.make_test(200, seed=1)}


def test_conversations_are_held_out_and_those_too_long_told(wide):
    _, tokenizer = wide
    short = [[*HI, {"role": "assistant", "content": str(i)}] for i in range(9)]
    long = [*HI, {"role": "assistant", "content": "x" * 600}]
    found = encode_demonstrations([long, *short], tokenizer, block_size=512, config=config(), validation_fraction=0.3)
    assert (len(found.training), len(found.held_out), found.n) == (7, 2, 9)
    assert found.left_out == "1 of 10 longer than the model's context of 512 tokens"
    with pytest.raises(ValueError, match="conversations: 2 came, 1 of 2 longer than .*; at least two must fit"):
        encode_demonstrations([long, short[0]], tokenizer, block_size=512, config=config())


def test_a_conversation_that_comes_twice_is_on_one_side(wide):
    """Each of 50 conversations twice, some with other spaces; the longer versions of some too."""
    short = [[*HI, {"role": "assistant", "content": f"{i}."}] for i in range(50)]
    spaced = [[*HI, {"role": "assistant", "content": f" {i}. "}] for i in range(50)]
    longer = [[*one, *HI, {"role": "assistant", "content": "Yes."}] for one in short[::5]]
    many = config(eval_batches=20)
    found = encode_demonstrations([*short, *spaced, *longer], wide[1], block_size=512, config=many, validation_fraction=0.3)
    first = [{bytes(wide[1].decode_bytes(ids)).split(b"<|end|>")[1].replace(b" ", b"") for ids, _ in side}
             for side in (found.training, found.held_out)]  # fmt: skip
    assert not first[0] & first[1] and len(found.held_out) in range(30, 34)
    with pytest.raises(ValueError, match="conversations: 3 came, all of one content; at least two different ones are needed"):
        encode_demonstrations(short[:1] * 3, wide[1], block_size=512, config=config())


def test_no_made_conversation_that_is_held_out_is_trained_on(wide):
    conversations = make_demonstrations(4000, seed=0)
    shape = {"block_size": 10_000, "config": config(batch_size=16, eval_batches=20), "validation_fraction": 0.05}
    found = encode_demonstrations(conversations, wide[1], **shape)
    sides = [{tuple(ids) for ids, _ in side} for side in (found.training, found.held_out)]
    assert len(found.held_out) > 100 and not sides[0] & sides[1]


def test_prompts_that_differ_in_spaces_are_on_one_side(wide):
    pairs = [Preference([{"role": "user", "content": f"What is {i}?{' ' * n}"}], "A", "B") for i in range(40) for n in range(3)]
    found = prepare_comparisons(pairs, wide[1], block_size=512, seed=0)
    sides = [{wide[1].decode(group.prompt).replace(" ", "") for group in side} for side in (found.groups, found.held_out)]
    assert len(found.held_out) == 12 and not sides[0] & sides[1]


def test_one_evaluation_holds_no_more_than_its_batches(wide):
    conversations = [[*HI, {"role": "assistant", "content": str(i)}] for i in range(100)]
    found = encode_demonstrations(conversations, wide[1], block_size=512, config=config(), validation_fraction=0.5)
    assert len(found.held_out) == 2  # one batch of two


def test_a_prompt_is_held_out_with_all_its_pairs(wide):
    pairs = [Preference([{"role": "user", "content": f"Q{i % 5}"}], f"a{i}", "b") for i in range(20)]
    found = prepare_comparisons(pairs, wide[1], block_size=512, seed=0)
    assert (len(found.groups), len(found.held_out), len(found.held_out[0].pairs)) == (4, 1, 4)
    assert [found.steps_per_epoch(size) for size in (1, 3, 4)] == [4, 2, 1]
    with pytest.raises(ValueError, match="all of one prompt; at least two prompts are needed"):
        prepare_comparisons(pairs[::5], wide[1], block_size=512, seed=0)


@pytest.mark.parametrize("name", ["center_coefficient", "margin_scale"])
def test_settings_of_the_reward_loss_are_finite(name):
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            RewardConfig(**{name: value})


def test_answers_to_stories_are_rated_and_the_same_answers_can_be_rated_by_people(wide, tmp_path):
    model, tokenizer = wide
    stories = make_stories(3, split="train", seed=1)
    preferences, report = label_stories(model, tokenizer, stories, folder=tmp_path, seed=1, k=3)
    assert len(preferences) == report.n_pairs <= 9
    assert len((tmp_path / "items.jsonl").read_text().splitlines()) == 3
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) >= 3


def test_labels_that_stand_already_stay_and_only_missing_ones_are_added(wide, tmp_path):
    """A person's label among them; and a stop in the middle of labeling, which tears the last line."""
    model, tokenizer = wide
    stories = make_stories(4, split="train", seed=1)
    where = {"folder": tmp_path, "seed": 1, "k": 3}
    expected, _ = label_stories(model, tokenizer, stories, **where)
    file, items = tmp_path / "labels.jsonl", tmp_path / "items.jsonl"
    lines, answers = file.read_bytes().splitlines(keepends=True), items.read_bytes()
    anna = strict_json.dump(json.loads(lines[2]) | {"labeler": "anna", "key": "hers", "ratings": [1, 7, 4]}) + b"\n"
    file.write_bytes(lines[0] + anna + lines[1][:40])
    again, _ = label_stories(None, tokenizer, stories, **where)  # without a model: nothing is asked a second time
    assert again == expected and items.read_bytes() == answers
    assert file.read_bytes().startswith(lines[0] + anna + lines[1][:40] + b"\n")
    kept = read_labels(file).labels
    assert sorted(label.labeler for label in kept) == ["anna", *["simulated"] * 4]


def test_the_best_of_several_scores_no_lower_than_one(wide):
    model, tokenizer = wide
    judge = RewardModel(copy.deepcopy(model), rng=np.random.default_rng(0))
    stories = make_stories(24, split="test", seed=1)
    test = compare.TestSet(tokenizer, judge, compare.make_test(3, seed=1), stories, seed=1)
    one, best = (compare.evaluate("name", model, test, best_of=k) for k in (1, 4))
    assert best.score[0] >= one.score[0] and one.tasks == best.tasks
    assert len(one.examples) == 6


def test_what_is_suggested_has_been_learned_and_is_answered_again_and_again(wide, monkeypatch):
    model, tokenizer = wide
    known = {kind: ExactMatch(9 + (kind != "sort"), 11 - (kind != "sort")) for kind in compare.SUGGESTED}
    row = compare.Row("PPO", (0.9, 0.1), known, (1.0, 0.1), (1.0, 0.1), 9.0, [])
    assert compare.suggestions(row, model, tokenizer, seed=1) == []  # this model has learned nothing
    tried = []

    def sure_of_the_second(model, tokenizer, item, *, rng):
        tried.append(item)
        return [other.task for other in tried].count(item.task) == 2

    monkeypatch.setattr(compare, "is_sure", sure_of_the_second)
    found = compare.suggestions(row, model, tokenizer, seed=1)
    assert [item.task for item in found] == [kind for kind in compare.SUGGESTED if kind != "sort"]
    assert found == tried[1::2] and len(found) == 6


def test_a_model_that_is_wrong_once_is_not_sure(wide, monkeypatch):
    (item,) = make_instructions(1, split="test", rng=np.random.default_rng(0), tasks=["sort"])
    said = iter([item.answer] * 13 + ["?"])
    monkeypatch.setattr(compare, "reply", lambda *_, **__: [Reply([{"role": "assistant", "content": next(said)}], "stop")])
    assert compare.is_sure(*wide, item, rng=np.random.default_rng(0))
    assert not compare.is_sure(*wide, item, rng=np.random.default_rng(0), n=4)

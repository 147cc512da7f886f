"""Every example runs, with few steps, and shows the fact it was written for."""

import importlib.util
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))


def load(stem: str):
    (path,) = [p for p in EXAMPLES if p.name.startswith(stem)]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks its own module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may leave a picture where it is run


def test_there_are_examples_numbered_without_a_gap():
    assert [path.name[:2] for path in EXAMPLES] == [f"{i:02d}" for i in range(1, len(EXAMPLES) + 1)]


def test_autograd_finds_the_line_the_points_were_made_with():
    found = load("01").main()
    assert abs(found["w"] - 3) < 0.1 and abs(found["b"] + 0.5) < 0.1
    assert found["gradcheck"] < 1e-6


def test_a_trained_bigram_table_approaches_counting_from_above():
    found = load("02").main()
    assert found["counting"] <= found["loss"] < found["counting"] + 0.01


def test_bpe_packs_text_into_fewer_tokens_the_more_it_merges():
    few, more = (load("03").main(steps=steps)["bytes_per_token"] for steps in (50, 400))
    assert 1.2 < few < more


def test_attention_learns_to_look_up():
    assert load("04").main(steps=80)["accuracy"] > 0.95


def test_attention_begins_by_guessing():
    assert load("04").main(steps=1)["accuracy"] < 0.4


def test_a_gpt_learns_from_characters():
    found = load("05").main(steps=25)
    assert found["validation"] < 3.4  # ln of the alphabet is above 4.5


def test_greedy_repeats_itself_more_and_surprises_less_than_sampling():
    found = load("06").main(steps=25, n_texts=2)
    assert found["greedy"]["surprise"] < found["temperature 1"]["surprise"]
    assert len(found) == 8


def test_instruction_tuning_begins_near_nothing():
    found = load("07").main(steps=10, base_steps=2, n_demonstrations=800, n_test=60)
    assert found["base"] < 0.05 and 0 <= found["tuned"] <= 1


def test_instruction_tuning_with_adapters_runs_and_saves(tmp_path):
    load("07").main(steps=5, base_steps=1, n_demonstrations=300, n_test=20, lora=True, save=str(tmp_path / "model"))
    assert (tmp_path / "model" / "tokenizer.json").exists()
    load("07").main(steps=5, n_demonstrations=300, n_test=20, base=str(tmp_path / "model"))


def test_a_pretrained_classifier_beats_the_commonest_class():
    found = load("08").main(steps=60, n_labelled=150, n_test=300)
    assert abs(found["always the commonest"] - 1 / 3) < 0.01
    assert found["counting words"] > 0.45 and found["GPT, pre-trained"] > 0.36


def test_a_reward_model_beats_a_coin_from_the_first_stories():
    found = load("09").main(steps=60, n_stories=60, n_test=20)
    assert 0.55 < found["accuracy"] < 1 and found["ceiling"] > 0.8


def test_dpo_changes_the_answers():
    found = load("10").main(steps=20, loss="length-normalised", n_stories=20, n_test=20, max_steps=3)
    assert found["after"] != found["before"] and found["deviation"] > 0


@pytest.mark.parametrize("shared", [False, True])
def test_ppo_moves_the_policy_and_writes_its_report(tmp_path, shared):
    small = {"sft_steps": 6, "n_stories": 12, "n_test": 8, "n_prompts": 8, "minibatch_size": 8}
    found = load("11").main(steps=4, out=str(tmp_path / "run"), shared_critic=shared, **small)
    assert found["after"] != found["before"] and found["deviation"] > 0
    assert (tmp_path / "run" / "report.html").exists()


def test_grpo_learns_sums_from_right_and_wrong():
    found = load("12").main(steps=20, until=0.2)
    assert found["before"] < 0.4 and found["after"] > found["before"]
    assert abs(found["loss"]) < 0.3


def test_the_museum_of_failures_shows_each_bug_by_its_number():
    found = load("13").main(steps=25)
    clipped, padded, shifted, turned, endless = found.values()
    assert clipped["right"] == 0 and clipped["broken"] > 0.1
    assert padded["broken"] < padded["right"] - 0.3
    assert shifted["broken"] < shifted["right"] - 10 and shifted["fine broken"] > 0.2  # while the margin grows nicely
    assert turned["right"] > 0 and turned["broken"] < -3
    assert endless["broken"] < 0.3 and endless["right"] > 0.9
    assert endless["fine broken"] > endless["fine right"]  # and the score says that the bug is an improvement


def test_the_museum_is_the_same_on_every_visit():
    module = load("13")
    one, two = (module.main(steps=4, exhibits=["no EOS"]) for _ in range(2))
    assert one == two

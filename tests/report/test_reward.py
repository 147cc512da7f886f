"""The report of a reward model says what was held out, in nats per pair, and how often it decides as the labelers did."""

import json
import math

import numpy as np
import pytest
from hostile_pages import DRAWN, HARMLESS, PAYLOADS, Tags

from tinyllm.models import GPT, GPTConfig, RewardModel
from tinyllm.report.reward import measure_pairs, read_pairs, write_reward_report
from tinyllm.rlhf.comparisons import ComparedAnswers
from tinyllm.rlhf.reward_model import compare_pairs, normalise
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.tokenizers import END_OF_TEXT, ByteTokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS, ChatFormat

CHAT = ChatFormat(ByteTokenizer(special_tokens=(END_OF_TEXT, *CONTROL_TOKENS)))
VOCAB_SIZE = CHAT.tokenizer.vocab_size


@pytest.fixture(scope="module")
def model():
    config = GPTConfig(VOCAB_SIZE, block_size=64, n_layers=1, n_heads=1, d_model=16, init_std=0.4)
    return RewardModel(GPT(config, rng=np.random.default_rng(0)), rng=np.random.default_rng(1))


@pytest.fixture(scope="module")
def held_out():
    """Twenty prompts of three answers and two comparisons each."""
    prompts = [CHAT.prompt([{"role": "user", "content": f"What is {i}?"}]) for i in range(20)]
    pairs = np.array([[0, 1], [2, 1]])
    return [
        ComparedAnswers(prompt, [CHAT.answer(f"{word} {i}") for word in ("It is", "Not", "Yes")], pairs, np.zeros(2, np.float32))
        for i, prompt in enumerate(prompts)
    ]


def write_run(folder):
    records = [{"event": "step", "step": i, "loss": 0.7 - i / 100, "ms_per_step": 100.0} for i in range(1, 21)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_what_is_measured_is_loss_and_accuracy_of_held_out_pairs_by_definition(model, held_out):
    measured = measure_pairs(model, held_out, chat=CHAT)
    differences = compare_pairs(model, held_out).astype(float)
    assert (measured["n_prompts"], measured["n_pairs"]) == (20, 40)
    assert measured["accuracy"] == pytest.approx(np.mean(differences > 0)) and 0 < measured["accuracy"] < 1
    assert measured["loss"] == pytest.approx(np.mean([math.log1p(math.exp(-d)) for d in differences]), rel=1e-6)
    assert sum(one["n"] for one in measured["calibration"]) == 40
    gaps = [one["chosen_reward"] - one["rejected_reward"] for one in measured["examples"]]
    assert gaps == sorted(gaps, reverse=True) and {one["rejected"].split()[0] for one in measured["examples"]} == {"Not"}
    assert measured["examples"][0]["prompt"].startswith("What is")


def test_normalising_the_rewards_changes_neither_loss_nor_confidence(model, held_out):
    before = measure_pairs(model, held_out, chat=CHAT)
    answers = [(group.prompt, answer) for group in held_out for answer in group.answers]
    normalise(model, pad_sequences(*map(list, zip(*answers, strict=True))))
    after = measure_pairs(model, held_out, chat=CHAT)
    assert float(model.gain.data[0]) != 1
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-4) and after["accuracy"] == before["accuracy"]
    confident = [[one["confidence"] for one in measured["calibration"]] for measured in (before, after)]
    np.testing.assert_allclose(*confident, rtol=1e-4)


def test_the_page_says_pairs_where_it_means_pairs_and_what_was_held_out(tmp_path, model, held_out):
    measured = measure_pairs(model, held_out, chat=CHAT) | {"accuracy": 0.725, "standard_error": 0.07, "loss": 0.5125}
    path = write_reward_report(write_run(tmp_path), measured)
    found = Tags(path.read_text("utf-8"))
    assert found.tags <= HARMLESS | DRAWN and "svg" in found.tags
    for expected in ("72.5%of held-out pairs decided as labelers did", "± 7.0%, 40 pairs of 20 prompts", "0.512held-out loss",
                     "loss (nats per pair)", "a coin: ln 2", "How sure, and how often right", "The model decides"):  # fmt: skip
        assert expected in found.text, expected
    assert "per token" not in found.text and "nothing was held out" not in found.text and "perplexity" not in found.text
    assert read_pairs(tmp_path) == measured
    assert "loss" in (tmp_path / "metrics.csv").read_text("utf-8").splitlines()[0].split(",")


def test_without_pairs_the_page_stands_and_nothing_from_a_run_becomes_markup(tmp_path):
    found = Tags(write_reward_report(write_run(tmp_path)).read_text("utf-8"))
    assert "held-out pairs decided" not in found.text and "loss (nats per pair)" in found.text
    payload = " ".join(PAYLOADS)
    texts = {"prompt": payload, "chosen": payload, "rejected": payload, "chosen_reward": 1.0, "rejected_reward": 0.5}
    measured = {"n_prompts": 1, "n_pairs": 1, "loss": 0.6, "accuracy": 1.0, "standard_error": 0.0, "calibration": []}
    measured["examples"] = [texts]
    found = Tags(write_reward_report(tmp_path, measured).read_text("utf-8"))
    assert found.tags <= HARMLESS | DRAWN and found.text.count(payload) == 3
    (tmp_path / "pairs.json").write_text('{"accuracy": "high"}')
    assert read_pairs(tmp_path) == {}

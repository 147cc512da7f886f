"""Heads: read at the last real token wherever the padding is, start where they should, and lie on disk as others expect."""

import json
from pathlib import Path

import numpy as np
import pytest

from tinyllm import Tensor, no_grad, ops
from tinyllm.autograd import gradcheck
from tinyllm.models import GPT, GPTConfig, RewardModel, ScalarHead, SequenceClassifier, ValueModel
from tinyllm.models.heads import last_real
from tinyllm.storage import FormatError
from tinyllm.tokenizers import ByteTokenizer

CONFIG = GPTConfig(vocab_size=260, block_size=12, n_layers=2, n_heads=2, d_model=16, init_std=0.3)
FIXTURE = Path(__file__).parents[1] / "fixtures" / "gpt2_reward"


def trunk(seed=0):
    return GPT(CONFIG, rng=np.random.default_rng(seed))


def scored(model, tokens, mask=None):
    with no_grad():
        return model(np.array(tokens), None if mask is None else np.array(mask, dtype=bool)).data


# ---- where it is read


def test_the_last_real_token_is_found_on_either_side_of_the_padding():
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]], dtype=bool)
    assert last_real(mask).tolist() == [3, 1, 3, 2]


def test_a_row_without_a_real_token_is_refused():
    with pytest.raises(ValueError, match="attention_mask: row 1 has no real token"):
        last_real(np.array([[True, False], [False, False]]))


@pytest.mark.parametrize("make", [lambda t, rng: RewardModel(t, rng=rng), lambda t, rng: SequenceClassifier(t, 3, rng=rng)])
def test_padding_on_either_side_changes_no_score(make):
    model = make(trunk(), np.random.default_rng(1))
    alone = scored(model, [[5, 6, 7]])
    both = scored(model, [[9, 5, 6, 7, 9], [1, 2, 3, 4, 5]], [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    np.testing.assert_allclose(both[0], alone[0], atol=1e-5)
    np.testing.assert_allclose(both[1], scored(model, [[1, 2, 3, 4, 5]])[0], atol=1e-5)


def test_what_follows_the_last_real_token_changes_nothing_and_the_token_itself_does():
    model = RewardModel(trunk(), rng=np.random.default_rng(1))
    mask = [[1, 1, 1, 0, 0]]
    assert scored(model, [[1, 2, 3, 4, 5]], mask) == scored(model, [[1, 2, 3, 0, 0]], mask)
    assert scored(model, [[1, 2, 9, 4, 5]], mask) != scored(model, [[1, 2, 3, 4, 5]], mask)


def test_a_value_does_not_know_what_comes_later():
    model = ValueModel(trunk())
    model.head.weight.assign(np.random.default_rng(0).standard_normal((1, 16)))
    one, other = scored(model, [[1, 2, 3, 4]]), scored(model, [[1, 2, 3, 9]])
    assert one.shape == (1, 4)
    np.testing.assert_array_equal(one[:, :3], other[:, :3])
    assert one[0, 3] != other[0, 3]


# ---- how it starts


def test_a_value_is_zero_at_first_and_still_learns():
    model = ValueModel(trunk())
    values = model(np.array([[1, 2, 3]]))
    assert values.shape == (1, 3) and not values.data.any()
    ops.sum((values - 1) ** 2).backward()
    assert np.abs(model.head.weight.grad).max() > 0 and model.head.bias.grad is not None


def test_a_reward_head_starts_with_deviation_one_over_root_of_width_plus_one():
    head = ScalarHead(1023, bias=False, rng=np.random.default_rng(0))
    assert head.bias is None and head.weight.data.std() == pytest.approx(1 / 32, rel=0.1)
    assert ScalarHead(8, zero=True, rng=None).weight.data.any() == False  # noqa: E712
    assert ScalarHead(8, rng=np.random.default_rng(0)).bias.data.tolist() == [0.0]


def test_gain_and_bias_are_applied_and_not_trained_but_kept():
    model = RewardModel(trunk(), rng=np.random.default_rng(1))
    raw = scored(model, [[1, 2, 3]])
    model.gain.assign(2.0)
    model.bias.assign(-1.0)
    np.testing.assert_allclose(scored(model, [[1, 2, 3]]), 2 * raw - 1, rtol=1e-6)
    assert {id(model.gain), id(model.bias)}.isdisjoint(map(id, model.parameters()))
    assert {"gain", "bias", "head.weight"} <= model.state_dict().keys()


def test_gradients_reach_the_head_and_the_first_embedding():
    hidden = np.random.default_rng(0).standard_normal((2, 3, 4))
    head = ScalarHead(4, rng=np.random.default_rng(0))

    def through(h, w, b):
        head.weight, head.bias = w, b
        return head(h)

    assert gradcheck(through, hidden, np.ones((1, 4)), np.ones(1)) < 1e-6
    model = RewardModel(trunk(), rng=np.random.default_rng(1))
    ops.sum(model(np.array([[1, 2, 3]]))).backward()
    assert np.abs(model.trunk.tokens.weight.grad[1]).max() > 0


# ---- on disk


def test_a_reward_model_comes_back_bit_by_bit(tmp_path):
    model = RewardModel(trunk(), rng=np.random.default_rng(1))
    model.gain.assign(1 / 3)
    model.bias.assign(-0.1)
    model.save_pretrained(tmp_path, ByteTokenizer())
    back = RewardModel.from_pretrained(tmp_path)
    assert not back.training
    np.testing.assert_array_equal(scored(back, [[1, 2, 3]]), scored(model, [[1, 2, 3]]))
    state = model.state_dict()
    assert all(np.array_equal(array, state[name]) for name, array in back.state_dict().items())


def test_a_classifier_comes_back_with_its_labels(tmp_path):
    model = SequenceClassifier(trunk(), 5, rng=np.random.default_rng(1))
    model.save_pretrained(tmp_path)
    back = SequenceClassifier.from_pretrained(tmp_path)
    np.testing.assert_array_equal(scored(back, [[1, 2, 3]]), scored(model, [[1, 2, 3]]))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["num_labels"] == len(config["id2label"]) == 5
    assert config["architectures"] == ["GPT2ForSequenceClassification"]


@pytest.mark.parametrize("kind, other", [(RewardModel, SequenceClassifier), (SequenceClassifier, RewardModel)])
def test_one_kind_of_head_is_not_loaded_as_the_other(tmp_path, kind, other):
    model = kind(trunk(), rng=None) if kind is RewardModel else kind(trunk(), 3, rng=None)
    model.save_pretrained(tmp_path)
    with pytest.raises(FormatError, match="config.json: num_labels"):
        other.from_pretrained(tmp_path)


def test_a_language_model_is_no_reward_model(tmp_path):
    trunk().save_pretrained(tmp_path)
    with pytest.raises(FormatError, match="score.weight: .*is this a language model"):
        RewardModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("value", ["1", None, True])
def test_a_gain_that_is_no_number_is_refused_by_name(tmp_path, value):
    RewardModel(trunk(), rng=None).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "reward_gain": value}))
    with pytest.raises(FormatError, match="config.json: reward_gain: expected a finite number"):
        RewardModel.from_pretrained(tmp_path)


def test_a_classifier_of_one_label_is_refused():
    with pytest.raises(ValueError, match="n_labels must be at least 2 .* got 1"):
        SequenceClassifier(trunk(), 1, rng=None)


def test_a_reward_model_of_transformers_gives_their_scores():
    expected = np.load(FIXTURE / "expected.npz")
    model = RewardModel.from_pretrained(FIXTURE)
    scores = scored(model, expected["tokens"], expected["mask"])
    assert np.abs(expected["scores"]).max() > 1
    np.testing.assert_allclose(scores, expected["scores"], atol=2e-5)


def test_a_head_is_a_layer_over_any_leading_axes():
    head = ScalarHead(4, rng=np.random.default_rng(0))
    assert head(Tensor(np.ones((4,), np.float32))).shape == ()
    assert head(Tensor(np.ones((2, 3, 4), np.float32))).shape == (2, 3)

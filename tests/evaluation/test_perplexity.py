import math

import numpy as np
import pytest

from tinyllm.autograd import Tensor
from tinyllm.data import Batch, EvaluationWindows
from tinyllm.evaluation.perplexity import Perplexity, measure_perplexity, ratio_standard_error, token_lengths


class Model:
    """Logits looked up in a table: what comes next depends on the last token only."""

    def __init__(self, table):
        self.table, self.training = table, True
        self.modes = []

    def __call__(self, tokens):
        self.modes.append(self.training)
        return Tensor(self.table[tokens])

    def train(self, mode=True):
        self.training = mode
        return self

    def eval(self):
        return self.train(False)


TABLE = np.random.default_rng(1).normal(size=(7, 7))
TOKENS = np.random.default_rng(2).integers(0, 7, 101)


def _surprise():
    log_probs = TABLE - np.log(np.exp(TABLE).sum(-1, keepdims=True))
    return -log_probs[TOKENS[:-1], TOKENS[1:]]


def test_an_indifferent_model_has_the_perplexity_of_its_vocabulary():
    windows = EvaluationWindows(TOKENS, batch_size=3, block_size=10)
    result = measure_perplexity(Model(np.zeros((7, 7))), windows, bytes_per_token=np.ones(7, int))
    assert result.perplexity == pytest.approx(7, rel=1e-12)
    assert result.standard_error == pytest.approx(0, abs=1e-12)
    assert result.bits_per_byte == pytest.approx(math.log2(7), rel=1e-12)
    assert (result.n_tokens, result.n_windows, result.n_bytes) == (100, 10, 100)


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_the_measurement_does_not_depend_on_the_batch_size(batch_size):
    result = measure_perplexity(Model(TABLE), EvaluationWindows(TOKENS, batch_size=batch_size, block_size=10))
    means = _surprise().reshape(10, 10).mean(1)
    assert result.nats == pytest.approx(_surprise().mean(), rel=1e-12)
    assert result.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(10), rel=1e-12)
    assert result.perplexity_standard_error == pytest.approx(result.perplexity * result.standard_error, rel=1e-12)
    assert result.bits_per_byte is None


def test_bits_per_byte_counts_only_tokens_that_stand_for_bytes():
    lengths = np.array([3, 1, 4, 1, 5, 2, 0])  # id 6 ends a text
    result = measure_perplexity(Model(TABLE), EvaluationWindows(TOKENS, batch_size=4, block_size=10), bytes_per_token=lengths)
    spelled = lengths[TOKENS[1:]]
    expected = _surprise()[spelled > 0].sum() / math.log(2) / spelled.sum()
    assert result.bits_per_byte == pytest.approx(expected, rel=1e-12)


def test_a_mask_leaves_targets_out_even_those_outside_the_vocabulary():
    mask = np.zeros((2, 50), bool)
    mask[0, :20] = True
    tokens, targets = TOKENS[:-1].reshape(2, 50), np.where(mask, TOKENS[1:].reshape(2, 50), -100)
    result = measure_perplexity(Model(TABLE), [Batch(tokens, targets, mask)])
    assert result.nats == pytest.approx(_surprise()[:20].mean(), rel=1e-12)
    assert (result.n_tokens, result.n_windows) == (20, 1) and math.isnan(result.standard_error)


def test_windows_of_different_length_weigh_their_tokens():
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 50, 4000).astype(float)
    sums = counts * (2 + rng.normal(size=4000))
    ratios = [sums[i::40].sum() / counts[i::40].sum() for i in range(40)]  # forty experiments of 100 windows
    errors = [ratio_standard_error(sums[i::40], counts[i::40]) for i in range(40)]
    assert np.mean(errors) == pytest.approx(np.std(ratios, ddof=1), rel=0.25)  # std of forty numbers: +-11 %


def test_the_model_is_measured_without_dropout_and_left_as_it_was():
    model = Model(TABLE)
    measure_perplexity(model, EvaluationWindows(TOKENS, batch_size=4, block_size=10))
    assert model.training and not any(model.modes)


def test_a_failure_leaves_the_training_mode_as_it_was():
    model = Model(TABLE)
    with pytest.raises(ValueError, match="targets must be ids from 0 to 6, got 0 to 7"):
        measure_perplexity(model, [Batch(np.zeros((1, 2), int), np.array([[0, 7]]))])
    assert model.training


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="no counted token"):
        measure_perplexity(Model(TABLE), [])


def test_a_hopeless_loss_is_infinite_perplexity_not_an_error():
    assert Perplexity(1000.0, 0.1, 10, 2).perplexity == math.inf


def test_special_tokens_have_no_length():
    class Tokenizer:
        vocab_size, special_tokens = 4, {"<|endoftext|>": 3}

        def decode_bytes(self, ids):
            return [b"a", "é".encode(), b"the ", b"<|endoftext|>"][ids[0]]

    assert token_lengths(Tokenizer()).tolist() == [1, 2, 4, 0]

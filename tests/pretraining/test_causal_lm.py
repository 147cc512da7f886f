import numpy as np
import pytest

from tinyllm.autograd import Tensor
from tinyllm.data import Batch
from tinyllm.ops import cross_entropy
from tinyllm.pretraining import next_token_loss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(4, 6, 11))
BATCH = Batch(RNG.integers(0, 11, (4, 6)), RNG.integers(0, 11, (4, 6)), RNG.random((4, 6)) < 0.7)


class Says:
    """A model that has its logits ready, whatever it is asked."""

    def __init__(self, logits):
        self.logits, self.asked = Tensor(logits, requires_grad=True), []

    def loss(self, tokens, targets, **settings):
        self.asked.append(tokens)
        return cross_entropy(self.logits, targets, **settings)


def test_the_loss_is_the_mean_surprise_of_the_counted_targets():
    log_probs = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    surprise = -np.take_along_axis(log_probs, BATCH.targets[..., None], -1)[..., 0]
    loss = next_token_loss(Says(LOGITS), BATCH)
    assert loss.item() == pytest.approx(surprise[BATCH.loss_mask].mean(), rel=1e-12)


def test_an_indifferent_model_loses_the_logarithm_of_the_vocabulary():
    assert next_token_loss(Says(np.zeros((4, 6, 11))), BATCH).item() == pytest.approx(np.log(11), rel=1e-12)


def test_micro_batches_with_a_common_count_add_up_to_the_whole_batch():
    parts = [
        next_token_loss(
            Says(LOGITS[rows]), Batch(BATCH.tokens[rows], BATCH.targets[rows], BATCH.loss_mask[rows]), n_counted=BATCH.n_counted
        ).item()
        for rows in (slice(0, 1), slice(1, 4))
    ]
    assert sum(parts) == pytest.approx(next_token_loss(Says(LOGITS), BATCH).item(), rel=1e-12)


def test_the_model_is_asked_about_the_tokens_and_gets_a_gradient():
    model = Says(LOGITS)
    next_token_loss(model, BATCH).backward()
    assert model.asked[0] is BATCH.tokens
    expected = Tensor(LOGITS, requires_grad=True)
    cross_entropy(expected, BATCH.targets, loss_mask=BATCH.loss_mask).backward()
    np.testing.assert_array_equal(model.logits.grad, expected.grad)

"""Facts about one optimizer step: micro-batches add up to one batch, and NaN moves nothing."""

import dataclasses
import math

import numpy as np
import pytest
import tiny_run

from tinyllm.autograd import op
from tinyllm.data.batches import Batch
from tinyllm.models import GPT
from tinyllm.optim import SGD
from tinyllm.training import NonFiniteStepError, read_records, train
from tinyllm.training.checkpoint import gradients_of
from tinyllm.training.step import add_gradients, count_tokens, update_weights

CONFIG = dataclasses.replace(tiny_run.MODEL, dropout=0.0)


def random_batch(rng, n_rows):
    """A batch whose rows have different numbers of counted tokens."""
    shape = (n_rows, CONFIG.block_size)
    tokens, targets = rng.integers(0, CONFIG.vocab_size, (2, *shape))
    return Batch(tokens, targets, np.arange(shape[1]) < rng.integers(0, shape[1] + 1, (n_rows, 1)))


def split(batch, sizes):
    """The rows of a batch as several batches."""
    at = np.cumsum(sizes)[:-1]
    return [Batch(*parts) for parts in zip(*(np.split(a, at) for a in vars(batch).values()), strict=True)]


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1, 1), (2, 4), (5, 1), (3, 3)])
def test_micro_batches_give_the_gradient_of_one_batch(sizes):
    rng = np.random.default_rng(0)
    batch = random_batch(rng, 6)
    model = GPT(CONFIG, rng=rng)
    losses, gradients = [], []
    for micro_batches in ([batch], split(batch, sizes)):
        model.zero_grad()
        n = count_tokens(micro_batches)
        assert n == batch.n_counted
        losses.append(sum(add_gradients(model, b, loss_fn=tiny_run.loss_fn, n_counted=n) for b in micro_batches))
        gradients.append(gradients_of(model))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert len(gradients[0]) == len(model.state_dict())
    for name, gradient in gradients[0].items():
        rounding = 1e-5 * abs(gradient).max()  # float32, summed in another order
        np.testing.assert_allclose(gradients[1][name], gradient, rtol=0, atol=rounding)


def test_a_step_in_which_no_token_counts_is_refused():
    batch = random_batch(np.random.default_rng(0), 2)
    with pytest.raises(ValueError, match="no token of this step's batches counts"):
        count_tokens([Batch(batch.tokens, batch.targets, np.zeros_like(batch.loss_mask))])


def test_clipping_scales_the_gradients_and_reports_the_norm_before():
    model = GPT(CONFIG, rng=np.random.default_rng(0))
    optimizer = SGD(model.parameters(), lr=0.0)
    before = {name: weight.data.copy() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = np.ones_like(weight.data)
    norm = update_weights(optimizer, learning_rate=1.0, grad_clip=0.5)
    assert norm == pytest.approx(math.sqrt(model.num_parameters()))
    moved = sum(((weight.data - before[name]) ** 2).sum() for name, weight in model.named_parameters())
    assert math.sqrt(moved) == pytest.approx(0.5, rel=1e-4)
    assert all(weight.grad is None for weight in model.parameters())


@op
def poison_value(x):
    """x, but its third element becomes infinite."""
    y = x.copy()
    y.flat[2] = np.inf
    return y, lambda dy: dy


@op
def poison_gradient(x):
    """x; backward returns NaN."""
    return x.copy(), lambda dy: dy * np.nan


def start(loss_fn, n_good_steps):
    """A run whose loss function is `loss_fn` after some good steps; returns it with what must not change."""
    model, source, _ = tiny_run.make()
    calls = []

    def later(model, batch, *, n_counted):
        calls.append(batch)
        good = len(calls) <= n_good_steps * tiny_run.CONFIG.gradient_accumulation + 1  # goes bad at a second micro-batch
        return (tiny_run.loss_fn if good else loss_fn)(model, batch, n_counted=n_counted)

    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    steps = train(model, source, config=tiny_run.CONFIG, loss_fn=later, optimizer=optimizer)
    for _ in range(n_good_steps):
        next(steps)
    return model, optimizer, steps


def test_the_bits_of_a_step_do_not_depend_on_who_computes_which_micro_batch():
    """Gradients of each piece by a model of its own, as another process would have it, added in order."""
    pieces = split(random_batch(np.random.default_rng(0), 6), (2, 1, 3))
    n = count_tokens(pieces)

    def gradients(*batches):
        model = GPT(CONFIG, rng=np.random.default_rng(1))
        for i, batch in enumerate(batches):
            add_gradients(model, batch, loss_fn=tiny_run.loss_fn, n_counted=n, first=i == 0)
        return {name: weight.grad for name, weight in model.named_parameters()}

    together, apart = gradients(*pieces), [gradients(piece) for piece in pieces]
    for name, gradient in together.items():
        assert np.array_equal(gradient, (apart[0][name] + apart[1][name]) + apart[2][name]), name


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("n_good_steps", [0, 2])
@pytest.mark.parametrize(
    ("poison", "text"),
    [
        (poison_value, "the loss is (inf|nan); the first one is the value of op 'poison_value'"),
        (poison_gradient, "norm of the gradients is nan; the first one is the gradient of op 'poison_gradient'"),
    ],
)
def test_a_nan_stops_its_own_step_moves_nothing_and_is_named(poison, text, n_good_steps):
    def bad_loss(model, batch, *, n_counted):
        hidden = poison(model.hidden(batch.tokens))
        return tiny_run.ops.cross_entropy(model.logits(hidden), batch.targets, n_counted=n_counted)

    model, optimizer, steps = start(bad_loss, n_good_steps)
    before = {**model.state_dict(), **optimizer.state_dict()}
    before = {name: array.copy() for name, array in before.items()}
    with pytest.raises(NonFiniteStepError, match=f"step {n_good_steps + 1}: .*{text}.*No weight was changed"):
        next(steps)
    for name, array in {**model.state_dict(), **optimizer.state_dict()}.items():
        np.testing.assert_array_equal(array, before[name])
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_weight_that_is_already_nan_is_named():
    model, source, _ = tiny_run.make()
    model.blocks[0].feedforward.up.weight.data[3, 1] = np.nan
    with pytest.raises(NonFiniteStepError, match=r"the weight 'blocks.0.feedforward.up.weight' already holds"):
        next(train(model, source, config=tiny_run.CONFIG, loss_fn=tiny_run.loss_fn))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_finite_gradients_whose_squares_overflow_are_told_apart():
    def huge_loss(model, batch, *, n_counted):
        return tiny_run.loss_fn(model, batch, n_counted=n_counted) * 1e30

    model, source, _ = tiny_run.make()
    with pytest.raises(NonFiniteStepError, match="norm of the gradients is inf; every single gradient is finite"):
        next(train(model, source, config=tiny_run.CONFIG, loss_fn=huge_loss))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("eval_interval", [0, 1])
def test_a_run_whose_last_step_makes_weights_infinite_says_that_it_diverged_and_saves_none_of_it(tmp_path, eval_interval):
    """Its loss was finite: only the next step's, or the evaluation, would show it."""
    settings = {"learning_rate": 1e39, "min_learning_rate": 0.0, "warmup_steps": 0, "schedule": "constant", "max_steps": 1}
    config = dataclasses.replace(tiny_run.CONFIG, **settings, eval_interval=eval_interval, checkpoint_interval=1)
    with pytest.raises(NonFiniteStepError, match=r"^the run diverged at step 1: the weight '.*' is not finite after it\. Lower"):
        tiny_run.run_in(tmp_path, config=config)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert all(math.isfinite(r.get("val_loss", 0)) for r in read_records(tmp_path / "metrics.jsonl"))


def test_a_validation_loss_that_is_infinite_ends_the_run_and_the_last_good_checkpoint_stays(tmp_path):
    def loss_fn(model, batch, *, n_counted):
        factor = 1.0 if model.training or tiny_calls["n"] < 3 else math.inf
        tiny_calls["n"] += not model.training
        return tiny_run.loss_fn(model, batch, n_counted=n_counted) * factor

    tiny_calls = {"n": 0}
    with pytest.raises(NonFiniteStepError, match="the run diverged at step 4: the validation loss is inf; Lower"):
        tiny_run.run_in(tmp_path, loss_fn=loss_fn)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


def test_moments_that_overflow_are_a_divergence_too(tmp_path):
    config = dataclasses.replace(tiny_run.CONFIG, grad_clip=0.0, max_steps=1)

    def loss_fn(model, batch, *, n_counted):
        return tiny_run.loss_fn(model, batch, n_counted=n_counted) * 1e30

    with pytest.raises(NonFiniteStepError, match="the run diverged at step 1: the (optimizer's|norm)"):
        tiny_run.run_in(tmp_path, config=config, loss_fn=loss_fn)

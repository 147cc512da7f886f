"""Facts about the training loop."""

import dataclasses

import numpy as np
import pytest
import tiny_run

from tinyllm.optim import SGD
from tinyllm.training import EvalRecord, StepRecord, evaluate, open_run, train
from tinyllm.training.metrics import MACHINE_FIELDS
from tinyllm.training.step import count_tokens


def records_of(config=tiny_run.CONFIG, **named):
    """All records of a run without a folder, and its model."""
    model, source, evaluation = tiny_run.make(config)
    arguments = {"config": config, "loss_fn": tiny_run.loss_fn, "evaluation": evaluation} | named
    return list(train(model, source, **arguments)), model


def weights(model):
    """The bits of every weight."""
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def test_a_small_model_learns_a_text_by_heart():
    config = dataclasses.replace(tiny_run.CONFIG, max_steps=60, learning_rate=0.03, eval_interval=60)
    model, source, _ = tiny_run.make(config, dataclasses.replace(tiny_run.MODEL, dropout=0.0))
    source.tokens = np.tile(np.arange(10), 50)  # a text whose next token is always certain
    losses = [record.loss for record in train(model, source, config=config, loss_fn=tiny_run.loss_fn)]
    assert losses[0] > 2 and losses[-1] < 0.5


def test_steps_and_evaluations_come_in_order_each_once():
    records, _ = records_of()
    steps = [(type(record), record.step) for record in records]
    expected = [(EvalRecord, 0)]
    for step in range(1, 9):
        expected += [(StepRecord, step)] + ([(EvalRecord, step)] if step in (4, 8) else [])
    assert steps == expected
    n_tokens = 3 * 2 * 6  # micro-batches, rows, block
    assert [r.tokens_seen for r in records if isinstance(r, StepRecord)] == [n_tokens * i for i in range(1, 9)]
    assert all(abs(record.loss - np.log(13)) < 0.3 for record in records if isinstance(record, StepRecord))
    best = [r.best_val_loss for r in records if isinstance(r, EvalRecord)]
    assert best == list(np.minimum.accumulate([r.val_loss for r in records if isinstance(r, EvalRecord)]))


def test_the_learning_rate_is_that_of_the_schedule():
    records, _ = records_of()
    rates = [record.learning_rate for record in records if isinstance(record, StepRecord)]
    assert rates == [tiny_run.CONFIG.learning_rate_at(step) for step in range(8)]


def test_two_runs_with_one_seed_are_the_same_to_the_bit():
    (first, model), (second, other) = records_of(), records_of()
    plain = [[{k: v for k, v in vars(r).items() if k not in MACHINE_FIELDS} for r in records] for records in (first, second)]
    assert plain[0] == plain[1]
    assert weights(model) == weights(other)


def test_evaluating_has_no_influence_on_training():
    (_, often), (_, never) = records_of(dataclasses.replace(tiny_run.CONFIG, eval_interval=1)), records_of(evaluation=())
    assert weights(often) == weights(never)


def test_evaluation_uses_no_dropout_weighs_by_tokens_and_restores_the_mode():
    model, _, batches = tiny_run.make()
    assert len({batch.n_counted for batch in batches}) == 1
    batches = [*batches, type(batches[0])(batches[0].tokens[:1], batches[0].targets[:1])]  # one of fewer tokens
    first = evaluate(model, batches, loss_fn=tiny_run.loss_fn)
    assert first == evaluate(model, batches, loss_fn=tiny_run.loss_fn) and model.training
    graphs = []

    def watched(model, batch, *, n_counted):
        graphs.append(tiny_run.loss_fn(model, batch, n_counted=n_counted).requires_grad)
        return tiny_run.loss_fn(model, batch, n_counted=n_counted)

    evaluate(model, batches, loss_fn=watched)
    assert graphs == [False] * len(batches)
    model.eval()
    by_hand = sum(tiny_run.loss_fn(model, b, n_counted=b.n_counted).item() * b.n_counted for b in batches)
    np.testing.assert_allclose(first, by_hand / count_tokens(batches), rtol=1e-6)
    evaluate(model, batches, loss_fn=tiny_run.loss_fn)
    assert not model.training


def test_without_a_run_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records_of()
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_must_know_the_config(tmp_path):
    model, source, _ = tiny_run.make()
    with open_run(tmp_path, settings={"model": model.config}) as run:
        with pytest.raises(ValueError, match='"training": config'):
            next(train(model, source, config=tiny_run.CONFIG, loss_fn=tiny_run.loss_fn, run=run))


def test_another_optimizer_may_be_given():
    model, source, _ = tiny_run.make()
    optimizer = SGD(model.parameters(), lr=1.0)
    list(train(model, source, config=tiny_run.CONFIG, loss_fn=tiny_run.loss_fn, optimizer=optimizer))
    assert optimizer.step_count == 8 and optimizer.lr == tiny_run.CONFIG.learning_rate_at(7)


def test_the_last_step_is_evaluated_even_between_intervals():
    records, _ = records_of(dataclasses.replace(tiny_run.CONFIG, max_steps=5))
    assert [r.step for r in records if isinstance(r, EvalRecord)] == [0, 4, 5]

"""The training loop: a generator that yields what happened, and leaves everything else to its caller.

    for record in train(model, source, config=config, loss_fn=loss_fn, evaluation=batches, run=run): show(record)

It is the same loop for pre-training, fine-tuning, reward models and reinforcement learning: what differs between them is
the loss function and the source of batches. Per turn: evaluate if it is due, save if it is due, take one step. A stop
signal is looked for after every micro-batch, so that a step of a minute is no reason to lose an hour.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tinyllm.data.batches import BatchSource
from tinyllm.nn import Module, evaluating
from tinyllm.optim import AdamW, Optimizer
from tinyllm.training.checkpoint import TrainState
from tinyllm.training.config import TrainConfig
from tinyllm.training.metrics import EvalRecord, Record, StepMetrics, StepRecord, peak_memory_bytes
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.signals import Stopped, StopSignals
from tinyllm.training.step import (
    DIVERGED,
    LossFunction,
    NonFiniteStepError,
    Trained,
    add_gradients,
    count_tokens,
    find_culprit,
    refuse_diverged,
    update_weights,
)


def evaluate(
    model: Trained, batches: Sequence[Any], *, loss_fn: LossFunction[Trained], poll: Callable[[], None] = lambda: None
) -> float:
    """Mean loss in nats over all counted tokens of `batches`, without dropout and without gradients.

    `poll` is called between batches and may raise; the model is put back into the mode it was in either way.
    """
    n_counted, total = count_tokens(batches), 0.0
    with evaluating(model):
        for batch in batches:
            poll()
            total += loss_fn(model, batch, n_counted=n_counted).item()
    return total


def train(
    model: Trained, source: BatchSource, *, config: TrainConfig, loss_fn: LossFunction[Trained],
    optimizer: Optimizer | None = None, evaluation: Sequence[Any] = (), run: RunFolder | None = None,
    measure: Callable[[], Mapping[str, float]] = dict,
) -> Iterator[Record]:  # fmt: skip
    """Trains `model` for config.max_steps steps and yields a StepRecord a step and an EvalRecord an evaluation.

    loss_fn     see `step.LossFunction`: sum over the batch's counted tokens, divided by the n_counted it is given
    optimizer   AdamW with the config's settings unless given; the loop sets its learning rate
    evaluation  validation batches, the same at each evaluation (steps 0, eval_interval, 2·eval_interval, ..., the last)
    run         where to log and to save, from `open_run`; a run that is resumed goes on exactly where it was
    measure     asked after each step for what the loss function or the source want to have logged (StepRecord.metrics). A
                StepMetrics goes into the checkpoints; another function must tell what follows from model and source alone

    Raises Stopped after saving when SIGINT or SIGTERM came. NonFiniteStepError when the run diverged: a loss, a gradient or a
    weight that is not finite. Nothing of it is saved: the last checkpoint is from before.
    """
    if run and run.settings.get("training") != asdict(config):
        raise ValueError('run: open_run(settings={"training": config, ...}) must be given the config that train() gets')
    metrics = measure if isinstance(measure, StepMetrics) else StepMetrics()
    state = TrainState(model, optimizer or make_optimizer(model, config), source, metrics=metrics)
    saved = run.restore(state) if run else None  # the checkpoint that holds just this state, if there is one

    def keep() -> Path | None:
        nonlocal saved
        refuse_diverged(state.model, state.optimizer, step=state.step)
        if run and saved is None:
            saved = run.save(state, keep_last=config.keep_last)
        return saved

    with StopSignals() as signals:

        def poll() -> None:
            if signals.received is not None:
                raise Stopped(signals.received, step=state.step, checkpoint=keep())

        model.train()
        while True:
            if _evaluation_due(state, config, evaluation):
                yield _log(run, _evaluate(state, evaluation, loss_fn, poll))
                saved = None
            if _checkpoint_due(state, config):
                keep()
            poll()
            if state.step >= config.max_steps:
                return
            saved = None
            yield _log(run, _step(state, config, loss_fn, poll, measure))


def make_optimizer(model: Module, config: TrainConfig) -> AdamW:
    """AdamW over the weights that are trained, with the config's settings."""
    return AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )


def _log(run: RunFolder | None, record: Record) -> Record:
    """Writes the record to the run's log, if there is a run, and hands it on."""
    if run:
        run.log(record)
    return record


def _evaluation_due(state: TrainState, config: TrainConfig, evaluation: Sequence[Any]) -> bool:
    """At every multiple of eval_interval and at the end, once."""
    if not evaluation or not config.eval_interval or state.val_loss is not None or state.micro_step:
        return False
    return state.step % config.eval_interval == 0 or state.step >= config.max_steps


def _checkpoint_due(state: TrainState, config: TrainConfig) -> bool:
    """At every multiple of checkpoint_interval and at the end."""
    due = config.checkpoint_interval and state.step and state.step % config.checkpoint_interval == 0
    return bool(due) or state.step >= config.max_steps


def _evaluate(state: TrainState, evaluation: Sequence[Any], loss_fn: LossFunction[Any], poll: Callable[[], None]) -> EvalRecord:
    """One evaluation, noted in the state."""
    start = time.perf_counter()
    refuse_diverged(state.model, state.optimizer, step=state.step)
    val_loss = evaluate(state.model, evaluation, loss_fn=loss_fn, poll=poll)
    if not math.isfinite(val_loss):
        raise NonFiniteStepError(f"the run diverged at step {state.step}: the validation loss is {val_loss}; {DIVERGED}")
    state.val_loss = val_loss
    state.best_val_loss = state.val_loss if state.best_val_loss is None else min(state.best_val_loss, state.val_loss)
    seconds = time.perf_counter() - start
    return EvalRecord(state.step, state.val_loss, state.best_val_loss, state.tokens_seen, seconds)


def _step(
    state: TrainState, config: TrainConfig, loss_fn: LossFunction[Any], poll: Callable[[], None],
    measure: Callable[[], Mapping[str, float]],
) -> StepRecord:  # fmt: skip
    """One optimizer step, or what is left of one that was interrupted between micro-batches."""
    start = time.perf_counter()
    state.source_state = state.source.state()
    try:
        batches = [state.source.next_batch() for _ in range(config.gradient_accumulation)]
    except ValueError:
        refuse_diverged(state.model, state.optimizer, step=state.step)  # a policy of NaN cannot write what it is to learn from
        raise
    learning_rate = config.learning_rate_at(state.step)
    n_counted = count_tokens(batches)
    generators, done = state.generators.values(), []
    try:
        for batch in batches[state.micro_step :]:
            done.append((batch, [rng.bit_generator.state for rng in generators]))
            first = state.micro_step == 0
            state.step_loss += add_gradients(state.model, batch, loss_fn=loss_fn, n_counted=n_counted, first=first)
            state.micro_step += 1
            if state.micro_step < len(batches):
                poll()
        norm = update_weights(state.optimizer, learning_rate=learning_rate, grad_clip=config.grad_clip)
    except FloatingPointError as error:
        raise _explain(state, error, done, partial(add_gradients, loss_fn=loss_fn, n_counted=n_counted)) from error
    n_tokens, loss = sum(batch.tokens.size for batch in batches), state.step_loss
    state.step, state.tokens_seen = state.step + 1, state.tokens_seen + n_tokens
    state.micro_step, state.step_loss, state.val_loss, state.source_state = 0, 0.0, None, None
    seconds = time.perf_counter() - start
    speed = (1000 * seconds, n_tokens / seconds, peak_memory_bytes())
    return StepRecord(state.step, loss, learning_rate, norm, state.tokens_seen, *speed, metrics=dict(measure()))


def _explain(
    state: TrainState, error: FloatingPointError, done: list[tuple[Any, list[Any]]], add: Callable[..., float]
) -> NonFiniteStepError:
    """Runs the step's micro-batches once more, with the same random numbers, to say where it went wrong."""

    def rerun() -> None:
        for batch, random_states in done:
            for rng, random_state in zip(state.generators.values(), random_states, strict=True):
                rng.bit_generator.state = random_state
            add(state.model, batch)

    culprit = find_culprit(state.model, rerun)
    state.model.zero_grad()
    return NonFiniteStepError(f"the run diverged at step {state.step + 1}: {error}; {culprit}. No weight was changed. {DIVERGED}")

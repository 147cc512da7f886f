"""How fast a training step is here, how near that is to what the machine can do, and where its time goes, as text.

GFLOP/s counts the arithmetic of the model's formula, not what was really computed; the peak is measured just before, with
multiply-adds in registers.
"""

import dataclasses
import statistics
from collections.abc import Callable

import numpy as np

from tinyllm import kernels
from tinyllm.data import Batch
from tinyllm.models import ModelConfig, make_model
from tinyllm.pretraining import next_token_loss
from tinyllm.report.profile import Profile
from tinyllm.training import TrainConfig, make_optimizer
from tinyllm.training.step import add_gradients, update_weights


def training_step(config: ModelConfig, *, batch_size: int) -> Callable[[], None]:
    """A function that takes one training step on a batch of random tokens: forward, backward, clipping, AdamW."""
    rng, settings = np.random.default_rng(0), TrainConfig()
    model = make_model(config, rng=rng)
    model.train()
    optimizer = make_optimizer(model, settings)
    ids = rng.integers(0, config.vocab_size, (batch_size, config.block_size + 1))
    batch = Batch(ids[:, :-1].copy(), ids[:, 1:].copy(), None)

    def step() -> None:
        add_gradients(model, batch, loss_fn=next_token_loss, n_counted=batch.n_counted)
        update_weights(optimizer, learning_rate=1e-4, grad_clip=settings.grad_clip)

    return step


def shrunk(config: ModelConfig) -> ModelConfig:
    """The same layers on a handful of numbers: what is left of a step's time is Python."""
    return dataclasses.replace(config, d_model=2 * config.n_heads, block_size=1, vocab_size=2, n_inner=None)


def speed_table(milliseconds: list[float], config: ModelConfig, *, batch_size: int) -> str:
    """Milliseconds a step, tokens and floating point operations per second, and the machine's peak."""
    tokens = batch_size * config.block_size
    seconds = statistics.median(milliseconds) / 1000
    done, peak = 3 * make_model(config, rng=None).flops_per_token() * tokens / seconds / 1e9, peak_gflops()
    rows = [
        ("step", f"{1000 * seconds:,.2f} ms  median of {len(milliseconds)}, quartiles {quartiles(milliseconds)}"),
        ("speed", f"{tokens / seconds:,.0f} tokens/s"),
        ("arithmetic", f"{done:,.1f} GFLOP/s" + (f", {done / peak:.0%} of this machine's {peak:,.0f}" if peak else "")),
    ]
    return "\n".join(f"  {name:<11} {value}" for name, value in rows)


def quartiles(values: list[float]) -> str:
    """ "a to b": half of the values lie between."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{low:,.2f} to {high:,.2f}"


def peak_gflops() -> float | None:
    """The machine's most, in 1e9 operations per second; None on the NumPy twins, which cannot ask."""
    if kernels.backend() == "numpy":
        return None
    from tinyllm.kernels.product.peak import peak_flops

    return peak_flops() / 1e9


def parts_table(found: Profile) -> str:
    """Kernels, Python, NumPy and memory: how they add up to a step; and what of it is spent on fresh memory."""
    names = {"kernels": "compiled kernels", "python": "Python", "numpy and memory": "NumPy and memory"}
    lines = [f"{'where the time goes':<22} {'ms':>8} {'share':>7}"]
    for part, milliseconds in found.parts().items():
        lines.append(f"  {names[part]:<20} {milliseconds:8.2f} {milliseconds / found.milliseconds:7.1%}")
    n_bytes, cost = sum(row.n_bytes for row in found.rows), found.faults * found.fault_us / 1000
    lines.append(f"  {n_bytes / 1e6:,.0f} MB of new arrays; {found.faults:,.0f} page faults of {found.fault_us:.2f} us: "
                 f"{cost:.2f} ms, {cost / found.milliseconds:.1%}, inside the above")  # fmt: skip
    return "\n".join(lines)


def op_table(found: Profile) -> str:
    """One line an op and phase: calls, milliseconds, share, the part in kernels, megabytes of new arrays."""
    whole = sum(row.milliseconds for row in found.rows)
    lines = [f"{'phase':<10} {'op':<18} {'calls':>5} {'ms':>8} {'share':>6} {'kernels':>8} {'MB':>7}"]
    for row in found.rows:
        calls = f"{row.calls:.0f}" if row.calls else ""
        lines.append(f"{row.phase:<10} {row.op:<18} {calls:>5} {row.milliseconds:8.2f} {row.milliseconds / whole:6.1%} "
                     f"{row.kernel_ms:8.2f} {row.n_bytes / 1e6:7.1f}")  # fmt: skip
    lines.append(f"Ops are timed with wrappers around them, which make a step {found.recording_ms:.2f} ms longer.")
    return "\n".join(lines)

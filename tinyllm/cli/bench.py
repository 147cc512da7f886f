"""`tinyllm bench`: how long a training step takes here, how near that is to what the machine can do, and where the time goes.

Without --profile it times whole training steps (forward, backward, AdamW) of the shape you give: nanoGPT's CPU recipe
unless told otherwise. GFLOP/s counts the arithmetic of the model's formula, not what was really computed; the peak is
measured just before, with multiply-adds in registers. With --profile it also shows each op's share, what Python costs, and
writes a page with a picture of one step.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group
    from tinyllm.models.gpt import GPTConfig
    from tinyllm.report.profile import Profile

EPILOG = """examples:
  tinyllm bench                                nanoGPT's CPU recipe
  tinyllm bench --profile                      and where the time goes
  tinyllm bench --n-layers 6 --d-model 384 --n-heads 6 --batch-size 4
  tinyllm bench runs/mine --steps 5            the shape of a model of yours
"""
RECIPE = {  # nanoGPT's for a CPU
    "vocab_size": 65, "block_size": 64, "n_layers": 4, "n_heads": 4, "d_model": 128, "bias": False, "init_std": 0.05,
}  # fmt: skip
PAGE = "profile.html"


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "bench", help="how fast a training step is, and where its time goes", description=lesson(__doc__), epilog=EPILOG
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="take the shape of this model or run")
    parser.add_argument("--batch-size", type=int, default=12, metavar="N", help="rows in a batch (default: 12)")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="steps that are timed (default: 50)")
    parser.add_argument(
        "--profile", nargs="?", const=PAGE, metavar="FILE", help=f"show where the time goes; the page is FILE ({PAGE})"
    )

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, [_group()])

    parser.later(fill)


def _group() -> Group:
    from tinyllm.cli.settings import Group
    from tinyllm.models.gpt import GPTConfig

    return Group("model", GPTConfig, defaults=RECIPE)


def run(args: argparse.Namespace) -> int:
    """Time the step, and profile it if that is asked for."""
    from tinyllm.cli.info import shape_of
    from tinyllm.cli.warmup import ensure_compiled
    from tinyllm.training import check_memory

    for name in ("batch_size", "steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; expected at least 1")
    title, config = shape_of(args, _group())
    check_memory(config, batch_size=args.batch_size)
    ensure_compiled()
    print(f"{title}: {config.n_layers} layers, width {config.d_model}, {config.n_heads} heads, {config.num_parameters():,} "
          f"parameters; batches of {args.batch_size} x {config.block_size} tokens", flush=True)  # fmt: skip
    step = training_step(config, batch_size=args.batch_size)
    if args.profile is None:
        from tinyllm.report.profile import time_steps

        print_speed(time_steps(step, n_steps=args.steps), config, batch_size=args.batch_size)
        return 0
    _profile(args, step, config)
    return 0


def training_step(config: GPTConfig, *, batch_size: int) -> Callable[[], None]:
    """A function that takes one training step on a batch of random tokens: forward, backward, clipping, AdamW."""
    import numpy as np

    from tinyllm.data import Batch
    from tinyllm.models import GPT
    from tinyllm.pretraining import next_token_loss
    from tinyllm.training import TrainConfig, make_optimizer
    from tinyllm.training.step import add_gradients, update_weights

    rng, settings = np.random.default_rng(0), TrainConfig()
    model = GPT(config, rng=rng)
    model.train()
    optimizer = make_optimizer(model, settings)
    ids = rng.integers(0, config.vocab_size, (batch_size, config.block_size + 1))
    batch = Batch(ids[:, :-1].copy(), ids[:, 1:].copy(), None)

    def step() -> None:
        add_gradients(model, batch, loss_fn=next_token_loss, n_counted=batch.n_counted)
        update_weights(optimizer, learning_rate=1e-4, grad_clip=settings.grad_clip)

    return step


def shrunk(config: GPTConfig) -> GPTConfig:
    """The same layers on a handful of numbers: what is left of a step's time is Python."""
    import dataclasses

    return dataclasses.replace(config, d_model=config.n_heads, block_size=1, vocab_size=2)


def print_speed(milliseconds: list[float], config: GPTConfig, *, batch_size: int) -> None:
    """Milliseconds a step, tokens and floating point operations per second, and the machine's peak."""
    tokens = batch_size * config.block_size
    seconds = statistics.median(milliseconds) / 1000
    done, peak = 3 * config.flops_per_token() * tokens / seconds / 1e9, peak_gflops()
    rows = [
        ("step", f"{1000 * seconds:,.2f} ms  median of {len(milliseconds)}, quartiles {quartiles(milliseconds)}"),
        ("speed", f"{tokens / seconds:,.0f} tokens/s"),
        ("arithmetic", f"{done:,.1f} GFLOP/s" + (f", {done / peak:.0%} of this machine's {peak:,.0f}" if peak else "")),
    ]
    print("\n".join(f"  {name:<11} {value}" for name, value in rows))


def quartiles(values: list[float]) -> str:
    """ "a to b": half of the values lie between."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{low:,.2f} to {high:,.2f}"


def peak_gflops() -> float | None:
    """The machine's most, in 1e9 operations per second; None on the NumPy twins, which cannot ask."""
    from tinyllm import kernels

    if kernels.backend() == "numpy":
        return None
    from tinyllm.kernels.product.peak import peak_flops

    return peak_flops() / 1e9


def _profile(args: argparse.Namespace, step: Callable[[], None], config: GPTConfig) -> None:
    """The profile as tables here, as a picture in the page."""
    from tinyllm.report.flame import profile_page
    from tinyllm.report.profile import profile
    from tinyllm.storage import write_file

    found = profile(step, shrunk_step=training_step(shrunk(config), batch_size=1), n_steps=args.steps)
    print_speed(found.plain_ms, config, batch_size=args.batch_size)
    print(f"\n{parts_table(found)}\n\n{op_table(found)}", flush=True)
    path = Path(args.profile).expanduser()
    write_file(path, profile_page(found, title=_title(config, args.batch_size)).encode())
    print(f"\nThe picture of a step is {path}")


def _title(config: GPTConfig, batch_size: int) -> str:
    return f"{config.n_layers} layers, width {config.d_model}, {batch_size} x {config.block_size} tokens"


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

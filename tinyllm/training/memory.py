"""How much memory a GPT's training takes, known before any of it is taken.

    weights P      gradients P      AdamW's moments 2P      activations B·T·(L·(8C + F + H + 4) + 4C) + logits + masks

All times 4 bytes. Per layer and token the graph keeps: both norms' inputs and outputs (4C, and 4 statistics), query, key
and value (3C), attention's output (C) and its log-normaliser (H), and the feed-forward layer's inner array (F).
Logits (B·T·V) become their own gradient in place, a chunk of 2²⁴ of them at a time (`ops/linear_cross_entropy.py`).
A run over the budget would be killed by the system without a word; here it is refused, with the batch that would fit.
"""

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from tinyllm.models import GPT, GPTConfig
from tinyllm.ops.linear_cross_entropy import CHUNK

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_MEMINFO = "/proc/meminfo"
BASE_BYTES = 160_000_000  # the interpreter, NumPy, Numba and the compiled kernels; measured


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of each kind."""

    weights: int
    gradients: int
    moments: int
    activations: int
    base: int = BASE_BYTES

    @property
    def total(self) -> int:
        """All together: the peak of the process."""
        return self.weights + self.gradients + self.moments + self.activations + self.base


def activation_bytes(config: GPTConfig, *, batch_size: int, length: int | None = None) -> int:
    """Bytes the graph of `batch_size` rows of `length` tokens (block_size by default) keeps, and the logits of a chunk."""
    C, H, n_tokens = config.d_model, config.n_heads, batch_size * (length or config.block_size)
    layer = 8 * C + config.d_feedforward + H + 4
    masks = (1 + 2 * config.n_layers) * C if config.dropout else 0  # dropout keeps what it scaled by
    logits = min(n_tokens * config.vocab_size, max(CHUNK, config.vocab_size))
    return 4 * (n_tokens * (config.n_layers * layer + 4 * C + masks) + logits)


def estimate_memory(config: GPTConfig, *, batch_size: int, length: int | None = None) -> MemoryEstimate:
    """The peak memory of training with AdamW in float32, micro-batches of `batch_size` rows."""
    parameters = 4 * GPT(config, rng=None).num_parameters()
    activations = activation_bytes(config, batch_size=batch_size, length=length)
    return MemoryEstimate(parameters, parameters, 2 * parameters, activations)


def available_memory() -> int | None:
    """Bytes this process may still take: the smaller of the container's limit and what the machine has free, or None."""
    limits = [_read_number(path) for path in _CGROUP_LIMITS]
    return min((limit for limit in [*limits, _free_memory()] if limit is not None), default=None)


def _read_number(path: str) -> int | None:
    """The number in a file; None if there is no such file, or no number in it (a cgroup without limit says "max")."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _free_memory() -> int | None:
    """MemAvailable of /proc/meminfo in bytes; None where there is no such file."""
    try:
        lines = Path(_MEMINFO).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def check_memory(config: GPTConfig, *, batch_size: int, length: int | None = None, budget: int | None = None) -> MemoryEstimate:
    """The estimate, or ValueError if it is over `budget` bytes (default: `available_memory`), naming what would fit."""
    estimate = estimate_memory(config, batch_size=batch_size, length=length)
    budget = available_memory() if budget is None else budget
    if budget is None or estimate.total <= budget:
        return estimate
    smaller = range(1, batch_size)
    fits = bisect_right(smaller, budget, key=lambda n: estimate_memory(config, batch_size=n, length=length).total)
    advice = (
        f"the largest batch_size that fits is {fits} (raise gradient_accumulation to keep the effective batch)"
        if fits >= 1
        else "not even one row fits: choose a smaller model or a shorter block_size"
    )
    raise ValueError(
        f"batch_size {batch_size} needs about {_gigabytes(estimate.total)} ({_gigabytes(estimate.activations)} of it "
        f"activations), but {_gigabytes(budget)} are available; {advice}"
    )


def _gigabytes(n_bytes: int) -> str:
    """A size to read."""
    return f"{n_bytes / 1e9:.2f} GB"

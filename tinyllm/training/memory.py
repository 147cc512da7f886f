"""How much memory a model's training takes, known before any of it is taken.

    weights P      gradients P      AdamW's moments 2P      activations B·T·K + logits

All times 4 bytes. K is what the graph keeps for each token, by the model's own account (`GPT.kept_per_token`). A model that
is asked need not have weights: one made with rng=None takes no memory before it is filled.
Logits (B·T·V) become their own gradient in place, a chunk of 2²⁴ of them at a time (`ops/linear_cross_entropy.py`).
A run over the budget would be killed by the system without a word; here it is refused, with the batch that would fit.
"""

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from tinyllm.models import Model
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


def activation_bytes(model: Model, *, batch_size: int, length: int | None = None) -> int:
    """Bytes the graph of `batch_size` rows of `length` tokens (block_size by default) keeps, and the logits of a chunk."""
    n_tokens, n_vocab = batch_size * (length or model.config.block_size), model.config.vocab_size
    logits = min(n_tokens * n_vocab, max(CHUNK, n_vocab))
    return 4 * (n_tokens * model.kept_per_token() + logits)


def estimate_memory(model: Model, *, batch_size: int, length: int | None = None) -> MemoryEstimate:
    """The peak memory of training with AdamW in float32, micro-batches of `batch_size` rows."""
    parameters = 4 * model.num_parameters()
    activations = activation_bytes(model, batch_size=batch_size, length=length)
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


def check_memory(model: Model, *, batch_size: int, length: int | None = None, budget: int | None = None) -> MemoryEstimate:
    """The estimate, or ValueError if it is over `budget` bytes (default: `available_memory`), naming what would fit."""
    estimate = estimate_memory(model, batch_size=batch_size, length=length)
    budget = available_memory() if budget is None else budget
    if budget is None or estimate.total <= budget:
        return estimate
    smaller = range(1, batch_size)
    fits = bisect_right(smaller, budget, key=lambda n: estimate_memory(model, batch_size=n, length=length).total)
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

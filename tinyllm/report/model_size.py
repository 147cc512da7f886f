"""Three numbers decide what one can do with a model: its parameters (what it can hold), bytes (whether it fits) and floating
point operations per token (how long one waits). Each as rows of a table: what, how it comes about, how much.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tinyllm.data.text.mixture import format_bytes
from tinyllm.models import Model
from tinyllm.nn import Module
from tinyllm.training import available_memory, estimate_memory

Row = tuple[str, str, str]


def parameter_rows(model: Module) -> Iterator[Row]:
    """(weight, of how many layers and of what shape, number and share), and the total."""
    parts = Counter((re.sub(r"\.\d+\.", ".*.", name), weight.shape) for name, weight in model.named_parameters())
    total = model.num_parameters()
    for (name, shape), n_layers in parts.items():
        count, several = n_layers * math.prod(shape), f"{n_layers} x " if n_layers > 1 else ""
        yield name, several + "·".join(map(str, shape)), f"{count:,}  {count / total:6.1%}"
    yield "in all", "", f"{total:,}  {1:6.1%}"


def memory_rows(model: Model, *, batch_size: int) -> Iterator[Row]:
    """(what for, of what it consists, size): weights, training, key/value cache."""
    config = model.config
    need = estimate_memory(model, batch_size=batch_size)
    cache = 2 * config.n_layers * config.n_groups * config.d_head * 4
    yield "weights", "4 bytes each", format_bytes(need.weights)
    yield "gradients and AdamW's moments", "3 x the weights, training only", format_bytes(need.gradients + need.moments)
    yield "activations", f"{batch_size} rows of {config.block_size} tokens, training only", format_bytes(need.activations)
    yield "training, in all", "with Python and the kernels", format_bytes(need.total)
    yield "key/value cache", "2·L·G·D numbers a token, generating only", f"{format_bytes(cache)} a token"
    yield "", f"a full context of {config.block_size} tokens", format_bytes(cache * config.block_size)
    free = available_memory()
    if free is not None:
        yield "available here", "", format_bytes(free)


def flops_rows(model: Model, *, batch_size: int) -> Iterator[Row]:
    """(what is done, formula, operations)."""
    forward, context = model.flops_per_token(), model.config.block_size
    tokens = batch_size * context
    yield "reading a token", "2 for each weight in a product, 4·L·H·D for each of S keys", _count(forward)
    yield "learning from a token", "3 x reading: backward makes two products of each", _count(3 * forward)
    yield "a training step", f"{batch_size} x {context} = {tokens:,} tokens", _count(3 * forward * tokens)
    yield "", "at 100 GFLOP/s, what two good cores may reach", f"{3 * forward * tokens / 1e11:,.2f} s"


def _count(n: float) -> str:
    """A large number as people say it: 12.3 G."""
    for unit in ("", " k", " M", " G", " T", " P"):
        if n < 999.5:
            return f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:,.0f} E"


def table(rows: Sequence[Row]) -> str:
    """Three columns, the last one to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)

"""Three numbers decide what one can do with a model: its parameters (what it can hold), bytes (whether it fits) and floating
point operations per token (how long one waits). Each as rows of a table: what, how it comes about, how much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tinyllm.data.text.mixture import format_bytes
from tinyllm.models.gpt import GPTConfig
from tinyllm.training import available_memory, estimate_memory

Row = tuple[str, str, str]


def parameter_rows(config: GPTConfig) -> Iterator[Row]:
    """(part, how its number comes about, number and share), and the total."""
    C, F, L, bias = config.d_model, config.d_feedforward, config.n_layers, config.bias
    plus = " + {}" if bias else ""
    parts = [
        ("token table, also the output", "V·C", config.vocab_size * C),
        ("positions", "block_size·C", config.block_size * C),
        ("attention: query, key, value", "L·(3C·C" + plus.format("3C") + ")", L * (3 * C * C + bias * 3 * C)),
        ("attention: output", "L·(C·C" + plus.format("C") + ")", L * (C * C + bias * C)),
        ("feed-forward: up", "L·(F·C" + plus.format("F") + ")", L * (F * C + bias * F)),
        ("feed-forward: down", "L·(C·F" + plus.format("C") + ")", L * (C * F + bias * C)),
        ("norms", "(2L + 1)·" + ("2C" if bias else "C"), (2 * L + 1) * C * (1 + bias)),
    ]
    total = sum(count for _, _, count in parts)
    for name, formula, count in parts:
        yield name, formula, f"{count:,}  {count / total:6.1%}"
    yield "in all", "", f"{total:,}  {1:6.1%}"


def memory_rows(config: GPTConfig, *, batch_size: int) -> Iterator[Row]:
    """(what for, of what it consists, size): weights, training, key/value cache."""
    need = estimate_memory(config, batch_size=batch_size)
    cache = 2 * config.n_layers * config.d_model * 4
    yield "weights", "4 bytes each", format_bytes(need.weights)
    yield "gradients and AdamW's moments", "3 x the weights, training only", format_bytes(need.gradients + need.moments)
    yield "activations", f"{batch_size} rows of {config.block_size} tokens, training only", format_bytes(need.activations)
    yield "training, in all", "with Python and the kernels", format_bytes(need.total)
    yield "key/value cache", "2·L·C numbers a token, generating only", f"{format_bytes(cache)} a token"
    yield "", f"a full context of {config.block_size} tokens", format_bytes(cache * config.block_size)
    free = available_memory()
    if free is not None:
        yield "available here", "", format_bytes(free)


def flops_rows(config: GPTConfig, *, batch_size: int) -> Iterator[Row]:
    """(what is done, formula, operations)."""
    forward = config.flops_per_token()
    tokens = batch_size * config.block_size
    yield "reading a token", "2·(L·(4·C² + 2·C·F) + V·C) + 4·L·C·S", _count(forward)
    yield "learning from a token", "3 x reading: backward makes two products of each", _count(3 * forward)
    yield "a training step", f"{batch_size} x {config.block_size} = {tokens:,} tokens", _count(3 * forward * tokens)
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

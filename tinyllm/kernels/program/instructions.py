"""What a program for one token a row is made of: each instruction names the arrays that it reads and the one it writes.

    instruction     out =
    Norm            layer norm or RMS norm of x, head by head if the weight is a head wide
    Linear          x Wᵀ + bias + residual, or gelu(x Wᵀ + bias)
    Int8Linear      scale · (x Qᵀ) + bias + residual, Q in int8
    Elementwise     gelu(x), silu(x), factor · x, x + other, x ∘ other, silu(x) ∘ other
    Rotary          x, each head turned by the angles of the row's position
    Embedding       the table's row of the row's token, or of its position
    Int8Embedding   the same from int8, times the row's scale
    Attend          the mean of the cached values; key and value are added to the cache first

x, out, other, residual: (rows, width), made by `RowProgram.array`, or views of such. The loops are in the files beside this one;
in NumPy: `kernels/reference/row_program.py`.
"""

from dataclasses import dataclass

from numpy import ndarray

ELEMENTWISE = ("gelu", "silu", "scale", "add", "multiply", "gate")
OF_TWO = ("add", "multiply", "gate")  # those that read `other`
TOKEN, POSITION = "token", "position"  # what a table is read by


@dataclass(frozen=True, eq=False)
class Norm:
    """x (rows, n·width) with weight, bias (width,): each of the n parts alone."""

    x: ndarray
    weight: ndarray
    bias: ndarray | None
    out: ndarray
    eps: float
    rms: bool = False


@dataclass(frozen=True, eq=False)
class Linear:
    """weight (out, in), bias (out,)."""

    x: ndarray
    weight: ndarray
    bias: ndarray | None
    out: ndarray
    residual: ndarray | None = None
    gelu: bool = False


@dataclass(frozen=True, eq=False)
class Int8Linear:
    """weight (out, in) int8, scale and bias (out,)."""

    x: ndarray
    weight: ndarray
    scale: ndarray
    bias: ndarray | None
    out: ndarray
    residual: ndarray | None = None


@dataclass(frozen=True, eq=False)
class Elementwise:
    """`name` is one of ELEMENTWISE."""

    name: str
    x: ndarray
    out: ndarray
    other: ndarray | None = None
    factor: float = 1.0


@dataclass(frozen=True, eq=False)
class Rotary:
    """cos and sin (positions, D/2); x (rows, H·D)."""

    x: ndarray
    cos: ndarray
    sin: ndarray
    out: ndarray


@dataclass(frozen=True, eq=False)
class Embedding:
    """table (V, width), read by TOKEN or POSITION."""

    table: ndarray
    out: ndarray
    by: str


@dataclass(frozen=True, eq=False)
class Int8Embedding:
    """table (V, width) int8, scale (V,)."""

    table: ndarray
    scale: ndarray
    out: ndarray
    by: str


@dataclass(frozen=True, eq=False)
class Attend:
    """query and out (rows, H·D), key and value (rows, G·D), keys (slots, G, D, S), values (slots, G, S, D).

    window: the last so many keys are seen, the row's own included; None: all.
    """

    query: ndarray
    key: ndarray
    value: ndarray
    keys: ndarray
    values: ndarray
    out: ndarray
    scale: float
    window: int | None = None


Instruction = Norm | Linear | Int8Linear | Elementwise | Rotary | Embedding | Int8Embedding | Attend

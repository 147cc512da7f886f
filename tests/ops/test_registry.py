"""One battery for every op: gradient, value against plain maths, dtype, memory layouts, empty arrays, determinism.

A case is the op's inputs, its settings and the same thing written as plain NumPy in float64. An op without a case fails
`test_every_op_has_a_case`, so a new op cannot be forgotten.
"""

import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from tinyllm import Tensor, no_grad, ops
from tinyllm.autograd import OPS, gradcheck
from tinyllm.ops import CAUSAL, EVERYTHING, Visibility, end_to_end

RNG = np.random.default_rng(7)
erf = np.vectorize(math.erf, otypes=[float])


NOT_OPS = ("split", "einsum")  # functions of `ops` that are made of ops


@dataclass(frozen=True)
class Case:
    op: str
    inputs: tuple  # float arrays get gradients; integer arrays and None are passed as they are
    plain: Callable[..., Any]
    settings: Callable[[], dict[str, Any]] = field(default=dict)  # made anew for each call: a generator moves on

    def __call__(self, *inputs):
        return getattr(self, self.op)(*inputs) if self.op in NOT_OPS else OPS[self.op](*inputs, **self.settings())

    def split(self, x):
        return ops.concatenate(ops.split(x, **self.settings())[::-1], axis=self.settings().get("axis", 0))

    def einsum(self, *xs):
        return ops.einsum(self.settings()["subscripts"], *xs)

    def __str__(self):
        return f"{self.op}-{'-'.join('None' if x is None else 'x'.join(map(str, x.shape)) or 'scalar' for x in self.inputs)}"


def normal(*shape):
    return RNG.standard_normal(shape)


def positive(*shape):
    return RNG.uniform(0.5, 3.0, shape)


def ids(high, *shape):
    return RNG.integers(0, high, shape)


def always(**settings):
    return lambda: settings


def plain_softmax(x, mask=True):
    e = np.where(mask, np.exp(x - x.max(-1, keepdims=True, initial=-1e9)), 0)
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


def plain_layer_norm(x, weight, bias, eps=1e-5):
    variance = ((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True)
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + eps) * weight
    return y if bias is None else y + bias


def plain_attention(query, key, value, bias=0, visible=EVERYTHING, attention_mask=True):
    (B, T, H, D), S = query.shape, key.shape[1]
    key, value = (np.repeat(x, H // x.shape[2], axis=2) for x in (key, value))
    seen = np.ones((B, 1, T, S), bool)
    for b, t, s in itertools.product(range(B), range(T), range(S)):
        place = t + S - T
        if visible.causal:
            seen[b, :, t, s] = s <= place or (visible.prefix is not None and s < visible.prefix[b])
        if visible.window is not None:
            seen[b, :, t, s] &= place - visible.window < s
        if visible.key_mask is not None:
            seen[b, :, t, s] &= visible.key_mask[b, s]
    seen = seen & attention_mask
    scores = np.einsum("bthd,bshd->bhts", query, key) / math.sqrt(D) + (0 if bias is None else bias)
    return np.einsum("bhts,bshd->bthd", plain_softmax(scores, seen), value)


def plain_self_attention(qkv, n_heads, n_kv_heads=None, **settings):
    B, T, width = qkv.shape
    n_kv_heads = n_kv_heads or n_heads
    heads = qkv.reshape(B, T, n_heads + 2 * n_kv_heads, -1)
    query, key, value = np.split(heads, [n_heads, n_heads + n_kv_heads], axis=2)
    return plain_attention(query, key, value, **settings).reshape(B, T, -1)


def plain_ragged_attention(qkv, lengths, visible):
    sequences = np.split(qkv, np.cumsum(lengths)[:-1], axis=1)
    parts = [
        plain_self_attention(
            part, 2, visible=replace(visible, prefix=None if visible.prefix is None else visible.prefix[b : b + 1])
        )
        for b, part in enumerate(sequences)
        if part.size
    ]
    return np.concatenate(parts, axis=1)


def plain_cross_entropy(logits, targets, loss_mask=None, n_counted=None):
    rows, picks = logits.reshape(-1, logits.shape[-1]), targets.ravel()
    nll = [np.log(np.exp(row - row[t]).sum()) for row, t in zip(rows, picks, strict=True)]
    counted = np.ones(len(nll), bool) if loss_mask is None else loss_mask.ravel()
    return np.array(nll)[counted].sum() / (n_counted or counted.sum())


def plain_smoothed(logits, targets, label_smoothing, loss_mask=True):
    truth = (1 - label_smoothing) * np.eye(logits.shape[-1])[targets] + label_smoothing / logits.shape[-1]
    losses = -(truth * np.log(plain_softmax(logits))).sum(-1)
    return losses[np.broadcast_to(loss_mask, losses.shape)].mean()


def plain_entropy(logits):
    p = plain_softmax(logits)
    return -(p * np.log(p)).sum(-1)


def plain_token_log_probs(logits, targets):
    return np.log((plain_softmax(logits) * (np.arange(logits.shape[-1]) == targets[..., None])).sum(-1))


def plain_linear_cross_entropy(hidden, weight, *arguments, **settings):
    return plain_cross_entropy(np.einsum("...c,vc->...v", hidden, weight), *arguments, **settings)


def plain_rotary(x, cos, sin, positions):
    z = x[..., : x.shape[-1] // 2] + 1j * x[..., x.shape[-1] // 2 :]  # a pair is a complex number, a turn is a product
    z = z * (cos + 1j * sin)[positions][:, :, None, :]
    return np.concatenate([z.real, z.imag], axis=-1)


def plain_gated_feedforward(x, gate, up, down, residual):
    g = x @ gate.T
    return (g / (1 + np.exp(-g)) * (x @ up.T)) @ down.T + (0 if residual is None else residual)


def plain_feedforward(x, up, up_bias, down, down_bias, residual):
    h = np.einsum("...c,fc->...f", x, up) + (0 if up_bias is None else up_bias)
    a = 0.5 * h * (1 + np.tanh(CELU * (h + 0.044715 * h**3)))
    y = np.einsum("...f,cf->...c", a, down) + (0 if down_bias is None else down_bias)
    return y if residual is None else y + residual


ANGLES = RNG.standard_normal((6, 2))
TURNS = {"cos": np.cos(ANGLES), "sin": np.sin(ANGLES)}
COS_SIN = {**TURNS, "positions": np.array([[0, 3, 1], [5, 0, 0]])}
COS_SIN_SHARED = {**TURNS, "positions": np.array([[4, 0, 2]])}
MASK = RNG.random((2, 3, 5)) < 0.6
MASK[0, 1] = False  # a row with nothing to look at
ROW_MASK = np.array([True, False, True, True, False])
KEY_MASK = np.array([[False, True, True, False, True], [True] * 5])
CONDITION = RNG.random((2, 3)) < 0.5
LOSS_MASK = np.array([[True, False, True], [False, False, True]])
RAGGED = {"lengths": np.array([2, 0, 6, 1]), "read": np.array([False, True, False, False, False, True, True, True, False])}
REDUCTIONS = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod, "var": np.var, "std": np.std}
CELU = math.sqrt(2 / math.pi)


def unary(name, plain, make=normal, **settings):
    return [Case(name, (make(*shape),), plain, always(**settings)) for shape in [(2, 3), (), (0, 3), (1,), (2, 1, 4)]]


def binary(name, plain, make=normal):
    shapes = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 2)), ((0, 3), (3,)), ((2, 3), (1, 1, 1))]
    return [Case(name, (make(*a), make(*b)), plain) for a, b in shapes]


CASES = [
    *binary("add", lambda a, b: a + b),
    *binary("subtract", lambda a, b: a - b),
    *binary("multiply", lambda a, b: a * b),
    *binary("divide", lambda a, b: a / b, positive),
    *binary("maximum", np.maximum),
    *binary("minimum", np.minimum),
    *unary("negative", lambda x: -x),
    *binary("power", lambda a, b: np.exp(b * np.log(a)), positive),
    *unary("absolute", np.abs),
    *unary("exp", np.exp),
    *unary("log", np.log, positive),
    *unary("sqrt", np.sqrt, positive),
    *unary("clip", lambda x: np.minimum(np.maximum(x, -0.3), 0.8), low=-0.3, high=0.8),
    *unary("clip", lambda x: np.where(x < -0.3, -0.3, x), low=-0.3),
    *unary("clip", lambda x: np.where(x > 0.8, 0.8, x), high=0.8),
    *unary("relu", lambda x: np.where(x > 0, x, 0)),
    *unary("tanh", lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))),
    *unary("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    *unary("silu", lambda x: x / (1 + np.exp(-x))),
    *unary("log_sigmoid", lambda x: -np.log(1 + np.exp(-x))),
    *unary("gelu", lambda x: 0.5 * x * (1 + np.tanh(CELU * (x + 0.044715 * x**3)))),
    *unary("gelu", lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))), approximate="erf"),
    Case("matmul", (normal(2, 3), normal(3, 4)), np.matmul),
    Case("matmul", (normal(2, 2, 3), normal(3, 4)), np.matmul),
    Case("matmul", (normal(2, 1, 2, 3), normal(3, 3, 2)), np.matmul),
    Case("matmul", (normal(0, 3), normal(3, 4)), np.matmul),
    Case("matmul", (normal(2, 0), normal(0, 4)), np.matmul),
    Case("matmul", (normal(1, 1), normal(1, 1)), np.matmul),
    *[Case("matmul", (normal(*a), normal(*b)), np.matmul)
      for a, b in [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 2, 3), (3,)), ((3,), (2, 3, 2)), ((0, 3), (3,))]],
    Case("swap_last_axes", (normal(2, 3, 4),), lambda x: np.moveaxis(x, 1, 2)),
    Case("getitem", (normal(3, 4),), lambda x: x[1:, ::-2], always(key=(slice(1, None), slice(None, None, -2)))),
    Case("getitem", (normal(3, 4),), lambda x: np.stack([x[0], x[2], x[0]]), always(key=np.array([0, 2, 0]))),
    Case("getitem", (normal(3, 4),), lambda x: x[np.array([True, False, True])], always(key=np.array([True, False, True]))),
    Case("getitem", (normal(0, 4),), lambda x: x[:, 0], always(key=(slice(None), 0))),
    Case("where", (normal(2, 3), normal(2, 3)), lambda a, b: a * CONDITION + b * ~CONDITION, always(condition=CONDITION)),
    Case("where", (normal(3), normal(2, 1)), lambda a, b: a * CONDITION + b * ~CONDITION, always(condition=CONDITION)),
    Case("where", (normal(2, 3), normal(3)), lambda a, b: a * CONDITION + b * ~CONDITION, always(condition=CONDITION * 1)),
    *[
        Case(name, (normal(2, 3, 4),), lambda x, f=f, s=s: f(x, **s), always(**s))
        for name, f in REDUCTIONS.items()
        for s in [{}, {"axis": 1}, {"axis": -1, "keepdims": True}, {"axis": (0, -1)}, {"axis": (0, 2), "keepdims": True}]
    ],
    Case("sum", (normal(0, 3),), lambda x: np.zeros(3), always(axis=0)),
    Case("mean", (normal(0, 3),), lambda x: np.zeros(0), always(axis=1)),
    Case("max", (normal(0, 3),), lambda x: np.zeros(0), always(axis=1)),
    Case("min", (normal(0, 3),), lambda x: np.zeros(0), always(axis=1)),
    Case("prod", (normal(0, 3),), lambda x: np.ones(3), always(axis=0)),
    Case("prod", (np.array([[0.0, 2.0, 3.0], [0.0, 2.0, 0.0]]),), lambda x: x[:, 0] * x[:, 1] * x[:, 2], always(axis=1)),
    Case("var", (normal(0, 3),), lambda x: np.zeros(0), always(axis=1)),
    *[Case("var", (normal(4, 3),), lambda x, s=s: np.var(x, **s), always(**s)) for s in [{"ddof": 1}, {"axis": 0, "ddof": 2}]],
    Case("std", (normal(4, 3),), lambda x: np.std(x, axis=1, ddof=1), always(axis=1, ddof=1)),
    Case("sum", (normal(1),), lambda x: x[0]),
    *[Case(name, (normal(),), lambda x, f=f: f(x)) for name, f in REDUCTIONS.items()],
    *[Case("cumsum", (normal(2, 3, 4),), lambda x, s=s: np.cumsum(x, **s), always(**s)) for s in [{}, {"axis": 1}, {"axis": -1}]],
    Case("cumsum", (normal(0, 3),), lambda x: x, always(axis=0)),
    Case("reshape", (normal(2, 6),), lambda x: np.array([[*row[:6]] for row in x]).reshape(4, 3), always(shape=(4, -1))),
    Case("reshape", (normal(0, 6),), lambda x: np.zeros((3, 0)), always(shape=(3, 0))),
    Case("transpose", (normal(2, 3, 4),), lambda x: np.einsum("abc->cab", x), always(axes=(2, 0, 1))),
    Case("transpose", (normal(2, 3, 4),), lambda x: np.einsum("abc->acb", x), always(axes=(0, -1, 1))),
    Case("concatenate", (normal(2, 3), normal(2, 1), normal(2, 0)), lambda *x: np.hstack(x), always(axis=-1)),
    Case("concatenate", (normal(1, 2),), lambda x: x),
    Case("stack", (normal(2, 3), normal(2, 3)), lambda a, b: np.stack([a, b])),
    Case("stack", (normal(2, 3), normal(2, 3), normal(2, 3)), lambda *x: np.stack(x, axis=-1), always(axis=-1)),
    Case("stack", (normal(),), lambda x: x[None]),
    Case("split", (normal(4, 3),), lambda x: np.concatenate([x[2:], x[:2]]), always(n_parts=2)),
    Case("split", (normal(2, 5),), lambda x: np.hstack([x[:, 4:], x[:, 1:4], x[:, :1]]), always(sizes=(1, 3, 1), axis=-1)),
    Case("repeat", (normal(2, 3),), lambda x: x[[0, 0, 1, 1]], always(repeats=2, axis=0)),
    Case("repeat", (normal(2, 3),), lambda x: x[:, [0, 2, 2, 2]], always(repeats=np.array([1, 0, 3]), axis=-1)),
    Case("repeat", (normal(0, 3),), lambda x: x, always(repeats=2, axis=0)),
    Case("pad", (normal(2, 3),), lambda x: np.pad(x, ((1, 0), (0, 2))), always(widths=((1, 0), (0, 2)))),
    Case("pad", (normal(2),), lambda x: np.array([7, *x, 7]), always(widths=(1, 1), value=7.0)),
    Case("pad", (normal(0, 2),), lambda x: np.zeros((2, 4)), always(widths=1)),
    *[Case(name, (normal(*s),), lambda x, f=f: x * f(np.ones(x.shape), 1), always(k=1))
      for name, f in {"tril": np.tril, "triu": np.triu}.items() for s in [(3, 4), (2, 3, 3), (0, 3)]],
    *[Case("einsum", tuple(normal(*s) for s in shapes), lambda *xs, t=text: np.einsum(t, *xs), always(subscripts=text))
      for text, *shapes in [("ij,jk->ik", (2, 3), (3, 4)), ("bthd,bshd->bhts", (2, 3, 2, 4), (2, 5, 2, 4)), ("i,i", (3,), (3,)),
                            ("ij->j", (2, 3)), ("ij->", (2, 3)), ("ab,bc,cd->ad", (2, 3), (3, 2), (2, 4)),
                            ("ij,i->j", (2, 3), (1,)),
                            ("...c,vc->...v", (2, 3, 4), (5, 4)), ("...i,...i->...", (2, 1, 3), (4, 3)), ("ba", (2, 3)),
                            ("i,j->ij", (2,), (3,)), ("ij,jk->ik", (0, 3), (3, 2)), (",i->i", (), (3,))]],
    Case("take_along", (normal(2, 5),), lambda x: np.array([[x[0, 4]], [x[1, 0]]]), always(indices=np.array([[4], [0]]))),
    Case("take_along", (normal(1, 3),), lambda x: x[:, [2, 2, 0, 2]], always(indices=np.array([[2, 2, 0, 2]]))),
    Case("take_along", (normal(3, 2),), lambda x: x[[1, 1], [0, 1]][None], always(indices=np.array([[1, 1]]), axis=0)),
    Case("take_along", (normal(0, 5),), lambda x: np.zeros((0, 1)), always(indices=np.zeros((0, 1), np.int64))),
    *[Case("softmax", (normal(*s),), plain_softmax) for s in [(2, 3, 5), (0, 5), (2, 1), (33,)]],
    Case("softmax", (normal(2, 3, 5),), lambda x: plain_softmax(x, MASK), always(mask=MASK)),
    Case("softmax", (normal(2, 3, 5),), lambda x: plain_softmax(x, ROW_MASK), always(mask=ROW_MASK)),
    Case("softmax", (normal(2, 3, 5),), lambda x: plain_softmax(x, MASK[:, :1]), always(mask=MASK[:, :1])),
    Case("softmax", (normal(2, 3, 5),), lambda x: plain_softmax(x, MASK[..., :1]), always(mask=MASK[..., :1])),
    Case("softmax", (normal(2, 3, 4),), lambda x: np.moveaxis(plain_softmax(np.moveaxis(x, 0, -1)), -1, 0), always(axis=0)),
    Case("softmax", (normal(2, 3, 5),), lambda x: plain_softmax(x.swapaxes(1, 2), MASK.swapaxes(1, 2)).swapaxes(1, 2),
         always(axis=1, mask=MASK)),
    Case("log_softmax", (normal(3, 4),), lambda x: np.log(plain_softmax(x.T).T), always(axis=0)),
    *[Case("log_softmax", (normal(*s),), lambda x: np.log(plain_softmax(x))) for s in [(2, 3, 5), (0, 5), (2, 1), (33,)]],
    *[Case("entropy", (normal(*s),), plain_entropy) for s in [(2, 3, 5), (0, 5), (2, 1), (33,)]],
    *[Case("token_log_probs", (normal(*s, 5), ids(5, *s)), plain_token_log_probs) for s in [(2, 3), (0,), (7,), (2, 1, 4)]],
    Case("cross_entropy", (normal(2, 3, 5), ids(5, 2, 3)), plain_cross_entropy),
    Case("cross_entropy", (normal(7, 33), ids(33, 7)), plain_cross_entropy),
    Case("cross_entropy", (normal(2, 3, 5), ids(5, 2, 3)),
         lambda x, t: plain_cross_entropy(x, t, LOSS_MASK), always(loss_mask=LOSS_MASK)),
    Case("cross_entropy", (normal(2, 3), ids(3, 2)), lambda x, t: plain_cross_entropy(x, t, n_counted=8), always(n_counted=8)),
    Case("cross_entropy", (normal(1, 1), ids(1, 1)), lambda x, t: 0.0),
    Case("cross_entropy", (normal(2, 3, 5), ids(5, 2, 3)),
         lambda x, t: 6 * plain_cross_entropy(x, t), always(reduction="sum")),
    Case("cross_entropy", (normal(2, 3, 5), ids(5, 2, 3)),
         lambda x, t: -plain_token_log_probs(x, t) * LOSS_MASK, always(reduction="none", loss_mask=LOSS_MASK)),
    *[Case("cross_entropy", (normal(2, 3, 5), ids(5, 2, 3)), lambda x, t, s=s: plain_smoothed(x, t, **s), always(**s))
      for s in [{"label_smoothing": 0.1}, {"label_smoothing": 0.3, "loss_mask": LOSS_MASK}]],
    Case("linear_cross_entropy", (normal(2, 3, 4), normal(5, 4), ids(5, 2, 3)), plain_linear_cross_entropy),
    Case("linear_cross_entropy", (normal(2, 3, 4), normal(5, 4), ids(5, 2, 3)),
         lambda *a: plain_linear_cross_entropy(*a, LOSS_MASK), always(loss_mask=LOSS_MASK)),
    Case("linear_cross_entropy", (normal(7, 4), normal(33, 4), ids(33, 7)),
         lambda *a: plain_linear_cross_entropy(*a, n_counted=20), always(n_counted=20)),
    *[
        Case("layer_norm", (normal(*s, 6), normal(6), bias), plain_layer_norm)
        for s in [(2, 3), (), (0,), (1,)]
        for bias in (normal(6), None)
    ],
    Case("layer_norm", (normal(2, 6), normal(6), normal(6)), lambda *a: plain_layer_norm(*a, eps=0.1), always(eps=0.1)),
    *[
        Case("rms_norm", (normal(*s, 6), normal(6)), lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w)
        for s in [(2, 3), (), (0,), (1,)]
    ],
    *[
        Case("linear", (normal(*s), normal(3, 4), bias),
             lambda x, w, b: np.einsum("...i,oi->...o", x, w) + (0 if b is None else b))
        for s in [(2, 3, 4), (4,), (0, 4)]
        for bias in (normal(3), None)
    ],
    *[
        Case("linear", (normal(*s, 4), normal(3, 4), bias, normal(*s, 3)),
             lambda x, w, b, r: np.einsum("...i,oi->...o", x, w) + (0 if b is None else b) + r)
        for s in [(2, 3), (), (0,), (3, 5)]
        for bias in (normal(3), None)
    ],
    *[
        Case("gelu_feedforward", (normal(*s, 4), normal(6, 4), up_bias, normal(3, 6), down_bias, residual), plain_feedforward)
        for s in [(2, 3), (), (0,), (3, 5)]
        for up_bias, down_bias, residual in [(normal(6), normal(3), normal(*s, 3)), (None, None, None)]
    ],
    *[
        Case("silu_feedforward", (normal(*s, 4), normal(6, 4), normal(6, 4), normal(3, 6), residual), plain_gated_feedforward)
        for s in [(2, 3), (), (0,), (3, 5), (40,)]
        for residual in [normal(*s, 3), None]
    ],
    Case("linear", (normal(2, 0), normal(3, 0), normal(3)), lambda x, w, b: np.stack([b, b])),
    Case("linear", (normal(2, 4), normal(0, 4), None), lambda x, w, b: np.zeros((2, 0))),
    Case("embedding", (normal(5, 3),), lambda w: w[[[4, 0], [4, 4]]], always(ids=np.array([[4, 0], [4, 4]]))),
    Case("embedding", (normal(5, 3),), lambda w: np.zeros((0, 3)), always(ids=np.zeros(0, np.int64))),
    Case("embedding", (normal(5, 3),), lambda w: w[2], always(ids=np.array(2, np.uint16))),
    Case("dropout", (normal(4, 5),), lambda x: x * (np.random.default_rng(3).random((4, 5), np.float32) >= 0.4) / 0.6,
         lambda: {"p": 0.4, "rng": np.random.default_rng(3)}),
    Case("dropout", (normal(0, 5),), lambda x: x, lambda: {"p": 0.0, "rng": np.random.default_rng(3)}),
    Case("dropout", (normal(),), lambda x: x, lambda: {"p": 0.0, "rng": np.random.default_rng(3)}),
    Case("rotary", (normal(2, 3, 2, 4),), lambda x: plain_rotary(x, **COS_SIN), always(**COS_SIN)),
    Case("rotary", (normal(2, 3, 1, 4),), lambda x: plain_rotary(x, **COS_SIN_SHARED), always(**COS_SIN_SHARED)),
    Case("rotary", (normal(0, 3, 2, 4),), lambda x: x, always(**COS_SIN_SHARED)),
    *[
        Case("attention", (normal(2, T, H, 4), normal(2, 5, G, 4), normal(2, 5, G, 4)),
             lambda *qkv, s=s: plain_attention(*qkv, **s), always(**s))
        for T, H, G in [(5, 2, 2), (3, 4, 2), (1, 2, 1), (7, 1, 1), (0, 2, 2)]
        for s in [{}, *({"visible": v} for v in (
            CAUSAL, Visibility(causal=True, key_mask=KEY_MASK), Visibility(key_mask=~KEY_MASK), Visibility(causal=True, window=2),
            Visibility(causal=True, prefix=np.array([3, 0])), Visibility(causal=True, prefix=np.array([4, 1]), window=3)))]
    ],
    Case("attention", (normal(0, 3, 2, 4), normal(0, 5, 2, 4), normal(0, 5, 2, 4)), lambda q, k, v: q),
    Case("attention", (normal(1, 3, 2, 4), normal(1, 0, 2, 4), normal(1, 0, 2, 4)), lambda q, k, v: 0 * q),
    *[
        Case("attention", (normal(2, 3, H, 4), normal(2, 5, G, 4), normal(2, 5, G, 4)),
             lambda *qkv, s=s: plain_attention(*qkv, **s), always(**s))
        for H, G in [(2, 2), (4, 2)]
        for s in [{"attention_mask": MASK[0]},
                  {"attention_mask": MASK[:, None], "visible": Visibility(causal=True, key_mask=KEY_MASK)}]
    ],
    *[
        Case("attention", (normal(2, 3, 4, 4), normal(2, 5, 2, 4), normal(2, 5, 2, 4), normal(*shape)),
             lambda *qkv: plain_attention(*qkv, visible=Visibility(causal=True, window=3)),
             always(visible=Visibility(causal=True, window=3)))
        for shape in [(3, 5), (4, 3, 5), (2, 1, 1, 5), (1, 4, 3, 1)]
    ],
    *[
        Case("self_attention", (normal(2, 5, 24),), lambda x, s=s: plain_self_attention(x, **s), always(**s))
        for s in [{"n_heads": 2, "visible": CAUSAL}, {"n_heads": 4, "visible": Visibility(key_mask=KEY_MASK)},
                  {"n_heads": 4, "n_kv_heads": 2, "visible": Visibility(causal=True, window=2)}]
    ],
    *[
        Case("self_attention", (normal(1, 9, 12),), lambda x, s=s: plain_ragged_attention(x, np.array([2, 0, 6, 1]), s),
             always(n_heads=2, visible=replace(s, sequences=end_to_end(np.array([2, 0, 6, 1])).sequences)))
        for s in [CAUSAL, EVERYTHING, Visibility(causal=True, window=3), Visibility(causal=True, prefix=np.array([2, 0, 4, 1]))]
    ],
    Case("self_attention", (normal(1, 9, 12),), lambda x: plain_ragged_attention(x, RAGGED["lengths"], CAUSAL)[:, RAGGED["read"]],
         always(n_heads=2, visible=end_to_end(**RAGGED))),
    Case("pad_rows", (normal(1, 3, 4),), lambda x: np.stack([x[0, :2], [x[0, 2], 0 * x[0, 2]], np.zeros((2, 4))]),
         always(mask=np.array([[True, True], [True, False], [False, False]]))),
    Case("pad_rows", (normal(0, 4),), lambda x: np.zeros((2, 4)), always(mask=np.zeros(2, bool))),
    Case("self_attention", (normal(0, 5, 12),), lambda x: x[..., :4], always(n_heads=2, visible=CAUSAL)),
    Case("self_attention", (normal(2, 1, 6),), lambda x: x[..., 4:], always(n_heads=1, visible=CAUSAL)),
]  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def as_type(inputs, dtype):
    return [x.astype(dtype) if is_float(x) else x for x in inputs]


def is_float(x):
    return x is not None and x.dtype.kind == "f"


def run(case, inputs, wants=None):
    """Value and gradients for the upstream gradient 1, 2, 3, ...; `wants`: positions that require a gradient (all)."""
    tensors = [
        Tensor(x, requires_grad=True) if is_float(x) and (wants is None or i in wants) else x for i, x in enumerate(inputs)
    ]
    out = case(*tensors)
    if out.requires_grad:
        out.backward((1.0 + np.arange(out.size) % 7).reshape(out.shape))
    return out, [x.grad if isinstance(x, Tensor) else None for x in tensors]


def library_ops():
    return {n for n, f in OPS.items() if f.__module__.startswith("tinyllm.") and not n.startswith("_")}


WHO_SEES_WHOM = {"CAUSAL", "EVERYTHING", "Visibility", "causal_mask", "end_to_end"}
WITHOUT_GRADIENT = {"int8_embedding", "int8_linear"}  # ops/test_attention.py, nn/test_quantized.py


def test_every_op_has_a_case():
    assert (library_ops() | set(ops.__all__)) - {case.op for case in CASES} == WITHOUT_GRADIENT | WHO_SEES_WHOM


def test_every_op_of_the_package_is_registered_and_says_what_it_computes():
    assert set(ops.__all__) - library_ops() == {*NOT_OPS, *WHO_SEES_WHOM}
    assert [name for name in library_ops() if not (OPS[name].__doc__ or "").strip()] == []


@every_case
def test_gradient_is_the_slope(case):
    floats = [i for i, x in enumerate(case.inputs) if is_float(x)]

    def function(*tensors):
        inputs = list(case.inputs)
        for i, tensor in zip(floats, tensors, strict=True):
            inputs[i] = tensor
        return case(*inputs)

    gradcheck(function, *(case.inputs[i] for i in floats))


@every_case
def test_value_is_the_equation(case):
    expected = np.asarray(case.plain(*case.inputs))
    with no_grad():
        value = case(*case.inputs).data
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(case, dtype):
    out, grads = run(case, as_type(case.inputs, dtype))
    assert out.dtype == dtype
    assert {grad.dtype for grad in grads if grad is not None} <= {np.dtype(dtype)}


@every_case
def test_float32_agrees_with_float64(case):
    out, grads = run(case, as_type(case.inputs, np.float32))
    exact, exact_grads = run(case, case.inputs)
    np.testing.assert_allclose(out.data, exact.data, rtol=1e-5, atol=2e-6)
    for grad, exact_grad in zip(grads, exact_grads, strict=True):
        if grad is not None:  # sums of up to 30 terms of size 10
            np.testing.assert_allclose(grad, exact_grad, rtol=1e-4, atol=1e-4)


def strided(x):
    big = np.full([3 * n for n in x.shape], np.nan)
    view = big[(..., *(slice(1, None, 3) for _ in x.shape))]
    view[...] = x
    return view


def mirrored(x):
    flip = tuple(slice(None, None, -1) for _ in x.shape)
    return np.ascontiguousarray(x[flip])[flip] if x.ndim else x


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {"fortran": lambda x: np.array(x, order="F"), "strided": strided, "mirrored": mirrored, "read_only": read_only}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_case
def test_memory_layout_does_not_matter(case, layout):
    changed = [LAYOUTS[layout](x) if is_float(x) else x for x in case.inputs]
    out, grads = run(case, changed)
    plain, plain_grads = run(case, case.inputs)
    np.testing.assert_allclose(out.data, plain.data, rtol=1e-12, atol=1e-13)
    for grad, plain_grad in zip(grads, plain_grads, strict=True):
        if grad is not None:
            assert grad.flags.c_contiguous and grad.flags.writeable
            np.testing.assert_allclose(grad, plain_grad, rtol=1e-12, atol=1e-12)


@every_case
def test_a_broadcast_input_is_like_its_copy(case):
    stretched = [np.broadcast_to(x[:1], x.shape) if is_float(x) and x.ndim and len(x) else x for x in case.inputs]
    (out, grads), (plain, plain_grads) = run(case, stretched), run(case, [x if x is None else x.copy() for x in stretched])
    np.testing.assert_allclose(out.data, plain.data, rtol=1e-12, atol=1e-13)
    for grad, plain_grad in zip(grads, plain_grads, strict=True):
        if grad is not None:
            np.testing.assert_allclose(grad, plain_grad, rtol=1e-12, atol=1e-12)


@every_case
def test_inputs_and_upstream_gradient_are_left_alone(case):
    inputs = [None if x is None else x.copy() for x in case.inputs]
    tensors = [Tensor(x, requires_grad=True) if is_float(x) else x for x in inputs]
    out = case(*tensors)
    value, upstream = out.data.copy(), np.ones(out.shape)
    (out * 1.0 + out * 0.5).backward(upstream)
    for x, before in zip(inputs, case.inputs, strict=True):
        if x is not None:
            np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(out.data, value)
    np.testing.assert_array_equal(upstream, 1)


@every_case
def test_each_gradient_alone_is_the_one_asked_for_together(case):
    _, together = run(case, case.inputs)
    for i, expected in enumerate(together):
        if expected is not None:
            _, alone = run(case, case.inputs, wants={i})
            assert [grad is not None for grad in alone] == [j == i for j in range(len(alone))]
            np.testing.assert_array_equal(alone[i], expected)


@every_case
def test_the_same_call_gives_the_same_bits(case):
    inputs = as_type(case.inputs, np.float32)
    (out, grads), (again, grads_again) = run(case, inputs), run(case, inputs)
    np.testing.assert_array_equal(out.data, again.data)
    for grad, grad_again in zip(grads, grads_again, strict=True):
        np.testing.assert_array_equal(grad, grad_again)


def outcome(case, inputs, gradient):
    """The value, or what was said instead; then whether backward gives gradients of the inputs' shapes."""
    tensors = [Tensor(x, requires_grad=gradient) if is_float(x) else x for x in inputs]
    try:
        out = case(*tensors)
    except Exception as error:
        assert isinstance(error, (ValueError, TypeError)) or case.op == "getitem", f"{type(error).__name__}: {error}"
        return type(error), str(error)
    if gradient and out.requires_grad:
        out.backward(np.ones(out.shape))
        for x in tensors:
            if isinstance(x, Tensor):
                assert x.grad is None or x.grad.shape == x.shape
    return out.dtype, out.data.tobytes(), out.shape


def variants(inputs):
    """The inputs with one of them changed in shape: a number, a vector, an axis more or less, longer, shorter; all numbers."""
    changes = [lambda x: x.ravel()[0] if x.size else 0.0, np.ravel, lambda x: x[None], lambda x: x[..., None],
               lambda x: x[0] if x.ndim and len(x) else x, lambda x: np.repeat(x, 2, -1) if x.ndim else x,
               lambda x: x[..., :-1] if x.ndim else x, lambda x: x[:0] if x.ndim else x,
               lambda x: x.astype(np.float32)]  # fmt: skip
    for i, x in enumerate(inputs):
        if is_float(x):
            yield from ([*inputs[:i], np.asarray(change(x)), *inputs[i + 1 :]] for change in changes)
    yield [np.asarray(x.ravel()[0]) if is_float(x) and x.size else x for x in inputs]
    yield [x.ravel() if is_float(x) else x for x in inputs]


AXES = [None, 0, -1, 1, 7, (0, 1), (0, 0)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every_case
def test_an_op_means_the_same_with_gradient_and_without_also_where_it_refuses(case):
    """What one mode computes the other computes to the bit, what one refuses the other refuses; and what ran can go backward."""
    settings = case.settings()
    calls = [(case, inputs) for inputs in variants(case.inputs)]
    if "axis" in inspect.signature(OPS.get(case.op, ops.split)).parameters:
        others = [dataclasses.replace(case, settings=always(**{**settings, "axis": axis})) for axis in AXES]
        calls += [(other, inputs) for other in others for inputs in (case.inputs, *list(variants(case.inputs))[:1])]
    for call, inputs in calls:
        with no_grad():
            plain = outcome(call, inputs, False)
        assert outcome(call, inputs, True) == plain, (call.settings(), [np.shape(x) for x in inputs])


@pytest.mark.parametrize("gradient", [False, True])
def test_a_list_of_tensors_is_joined_with_and_without_gradient(gradient):
    a, b = (Tensor(normal(2, 3), requires_grad=gradient) for _ in range(2))
    for joined, plain in [(ops.concatenate, np.concatenate), (ops.stack, np.stack)]:
        for pair in ([a, b], (a, b)):
            np.testing.assert_array_equal(joined(pair, axis=1).data, plain([a.data, b.data], axis=1))
            assert joined(pair).requires_grad == gradient
    if gradient:
        ops.sum(ops.concatenate([a, b])).backward()
        assert a.grad.shape == b.grad.shape == (2, 3)

"""One tiny call of every kernel: what `warmup()` compiles, and the shortest answer to "which shapes does this one take?"

The letters: B batch, T positions, C width, H heads, G key/value heads, D head width, V vocabulary.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tinyllm import kernels
from tinyllm.kernels.attention.visibility import CAUSAL
from tinyllm.kernels.program.instructions import Attend, Linear, Norm

B, T, C, H, G, D, V = 2, 3, 8, 2, 1, 4, 5


def examples(dtype: str = "float32") -> dict[str, Callable[[], Any]]:
    """Return a call without arguments for each name in kernels.TABLE; the arrays in it are made of `dtype`."""
    x = np.linspace(-1, 1, B * T * C, dtype=dtype).reshape(B, T, C)
    return {**_products(x), **_rows(x), **_activations(x), **_lookups(x), **_update(x), **_generation(x)}


def warmup(dtype: str = "float32") -> Iterator[tuple[str, int, int]]:
    """Compile, or load from the disk, every kernel for `dtype`; yields (name, index from 1, total) before each one.

    Afterwards nothing is compiled any more in this process for that dtype. Numba is only imported when iteration starts.
    """
    calls = {**examples(dtype), "text": encode_text, "learning": learn_merges}
    for index, (name, call) in enumerate(calls.items(), start=1):
        yield name, index, len(calls)
        call()


def _products(x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Matrix products (B, T, C) x (C, V) and attention."""
    query, key = x.reshape(B, T, H, D), x[..., : G * D].reshape(B, T, G, D)
    scores: dict[str, Any] = {"scale": D**-0.5, "visible": CAUSAL}
    flat, square, work = x.reshape(B * T, C), np.ones((C, C), x.dtype), np.ones((2, B * T, C), x.dtype)
    return {
        "matmul_add": lambda: kernels.matmul_add(flat, square, work[0]),
        "linear_forward": lambda: kernels.linear_forward(flat, square, square[0], flat),
        "linear_gelu_forward": lambda: kernels.linear_gelu_forward(flat, square, square[0]),
        "gelu_linear_backward": lambda: kernels.gelu_linear_backward(flat, square, work[0]),
        "linear_silu_gate_forward": lambda: kernels.linear_silu_gate_forward(flat, square, flat),
        "silu_gate_linear_backward": lambda: kernels.silu_gate_linear_backward(flat, square, *work),
        "int8_linear_forward": lambda: kernels.int8_linear_forward(x[0], np.ones((V, C), np.int8), np.ones(V, x.dtype)),
        "matmul": lambda: kernels.matmul(x, x[0, 0, :, None] * x[0, 0, :V]),
        "attention_forward": lambda: kernels.attention_forward(query, key, key, **scores),
        "attention_backward": lambda: kernels.attention_backward(
            query, query, key, key, query, np.zeros((B, H, T), x.dtype), **scores
        ),
    }


def _rows(x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Whatever works along the last axis: softmax, normalisation, the loss."""
    y, weight, statistic = np.full_like(x, 1 / C), x[0, 0], np.ones((B, T), x.dtype)
    logits, targets, per_row = x.reshape(B * T, C), np.zeros(B * T, np.int64), np.ones(B * T, x.dtype)
    normalizer = np.ones((B * T, 2), x.dtype)
    return {
        "softmax_forward": lambda: kernels.softmax_forward(x),
        "softmax_backward": lambda: kernels.softmax_backward(x, y),
        "log_softmax_forward": lambda: kernels.log_softmax_forward(x),
        "log_softmax_backward": lambda: kernels.log_softmax_backward(x, x),
        "layer_norm_forward": lambda: kernels.layer_norm_forward(x, weight, weight, 1e-5),
        "layer_norm_backward": lambda: kernels.layer_norm_backward(x, x, weight, statistic, statistic),
        "rms_norm_forward": lambda: kernels.rms_norm_forward(x, weight, 1e-5),
        "rms_norm_backward": lambda: kernels.rms_norm_backward(x, x, weight, statistic),
        "cross_entropy_forward": lambda: kernels.cross_entropy_forward(logits, targets),
        "cross_entropy_backward": lambda: kernels.cross_entropy_backward(per_row, logits, targets, normalizer),
    }


def _activations(x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Element by element: forward takes x, backward dy and x."""
    calls: dict[str, Callable[[], Any]] = {}
    for name in ("gelu_tanh", "gelu_erf", "silu"):
        calls[f"{name}_forward"] = partial(_call, f"{name}_forward", x)
        calls[f"{name}_backward"] = partial(_call, f"{name}_backward", x, x)
    return calls


def _call(name: str, *arguments: np.ndarray) -> Any:
    """Look the kernel up only now, so that making the examples loads nothing."""
    return getattr(kernels, name)(*arguments)


def _lookups(x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Embedding (V, C) by token ids, and rotary positions (B, T, H, D) by angles (M, D / 2)."""
    table, ids = np.ones((V, C), x.dtype), np.zeros((B, T), np.int64)
    heads, angles, places = x.reshape(B, T, H, D), np.ones((T, D // 2), x.dtype), np.zeros((1, T), np.int64)
    return {
        "embedding_forward": lambda: kernels.embedding_forward(table, ids),
        "embedding_backward": lambda: kernels.embedding_backward(x, ids, V),
        "rotary_forward": lambda: kernels.rotary_forward(heads, angles, angles, places),
        "rotary_backward": lambda: kernels.rotary_backward(heads, angles, angles, places),
    }


def _update(x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """One AdamW step on a small parameter."""
    arrays = [[np.ones(C, x.dtype)] for _ in range(4)]
    return {
        "sum_of_squares": lambda: kernels.sum_of_squares([x]),
        "adamw_update": lambda: kernels.adamw_update(*arrays, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decays=[0.1], step=1),
    }


def _generation(x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """A token drawn from each row, and a network of one layer for one token a row."""
    uniform = np.linspace(0, 1, B * T, endpoint=False)
    return {
        "sample_rows": lambda: kernels.sample_rows(x.reshape(B * T, C), uniform),
        "RowProgram": partial(_run_program, x.reshape(B * T, C)),
    }


def _run_program(x: np.ndarray) -> np.ndarray:
    """norm, query-key-value, attention, product; twice, so that there is something to attend to."""
    program, wide, weight = kernels.RowProgram(B * T, x.dtype), (H + 2 * G) * D, np.ones(C, x.dtype)
    first, normed, qkv, mixed, last = (program.array(width) for width in (C, C, wide, H * D, C))
    keys, values = np.zeros((B * T, G, D, 2), x.dtype), np.zeros((B * T, G, 2, D), x.dtype)
    program.slots[:] = np.arange(B * T)
    query, key, value = np.split(qkv, [H * D, (H + G) * D], axis=1)
    program.add(Norm(first, weight, None, normed, 1e-5))
    program.add(Linear(normed, np.resize(x, (wide, C)), None, qkv))
    program.add(Attend(query, key, value, keys, values, mixed, D**-0.5))
    program.add(Linear(mixed, np.resize(x, (C, H * D)), weight, last, first, gelu=True))
    for _ in range(2):
        first[:] = x
        program.run(B * T)
        program.lengths += 1
    return np.array(last)


def encode_text() -> bytes:
    """A word and a piece too long for the table of words, as tokens and back: bytes, one pair of which is a token."""
    if not kernels.machine_code():
        return b""  # the plain algorithm, in tokenizers/bpe.py, needs no compiling
    from tinyllm.kernels.text.byte_pairs import BytePairCoder
    from tinyllm.kernels.text.patterns import Cut

    tokens = [*(bytes([byte]) for byte in range(256)), b"ab"]
    classes = np.zeros(0x110000, np.uint8)
    classes[[*range(65, 91), *range(97, 123)]] = 1
    classes.setflags(write=False)
    coder = BytePairCoder(tokens, ordinary=np.arange(257), merges=None, whole=True, cut=Cut(), classes=classes)
    return coder.decode(coder.encode([b"abc " + b"ab" * 99])[0])


def learn_merges() -> np.ndarray:
    """The merges of a text in which one word is long: counted, then learned."""
    if not kernels.machine_code():
        return np.empty((0, 2), np.int32)
    from tinyllm.kernels.text.counting import PIECES, WordCounter
    from tinyllm.kernels.text.pair_training import PairLearner

    classes = np.zeros(0x110000, np.uint8)
    classes.setflags(write=False)
    counter = WordCounter(PIECES, classes, memory=1 << 20)
    counter.add([b"ab" * 99])
    letters, begins, counts = counter.words()
    symbols = np.concatenate([[-1], letters[: begins[-1]]]).astype(np.int32)
    symbols[begins] = -1
    learner = PairLearner(symbols, np.full(len(symbols), counts[0]), n_symbols=256, n_merges=2, least=1)
    learner.grow()
    return learner.learn(2)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES
from twin import assert_close

from tinyllm import kernels
from tinyllm.kernels import reference
from tinyllm.kernels.program.instructions import (
    ELEMENTWISE,
    OF_TWO,
    POSITION,
    TOKEN,
    Attend,
    Elementwise,
    Embedding,
    Int8Embedding,
    Int8Linear,
    Linear,
    Norm,
    Rotary,
)


def write_network(home, weights, *, n_rows, heads, dtype, room, window=None):
    """norm, attention, its product and residual, RMS norm, GELU: as a program of `home`; returns it, its first and last array."""
    (n_heads, n_groups, width), C = heads, weights["norm"].size
    w = {name: array.astype(dtype) for name, array in weights.items()}
    program = home.RowProgram(n_rows, dtype)
    first, normed, stream, normed_again = (program.array(C) for _ in range(4))
    qkv, mixed = program.array((n_heads + 2 * n_groups) * width), program.array(n_heads * width)
    last = program.array(len(w["up"]))
    keys = np.zeros((n_rows, n_groups, width, room), dtype)
    values = np.zeros((n_rows, n_groups, room, width), dtype)
    program.add(Norm(first, w["norm"], w["bias"], normed, 1e-5))
    program.add(Linear(normed, w["qkv"], None, qkv))
    query, key, value = np.split(qkv, [n_heads * width, (n_heads + n_groups) * width], axis=1)
    program.add(Attend(query, key, value, keys, values, mixed, width**-0.5, window))
    program.add(Linear(mixed, w["out"], w["bias"], stream, first))
    program.add(Norm(stream, w["norm"], None, normed_again, 1e-6, rms=True))
    program.add(Linear(normed_again, w["up"], w["up_bias"], last, gelu=True))
    return program, first, last


def network_weights(rng, *, C, heads, F):
    n_heads, n_groups, width = heads
    shapes = {"norm": (C,), "bias": (C,), "qkv": ((n_heads + 2 * n_groups) * width, C), "out": (C, n_heads * width), "up": (F, C),
              "up_bias": (F,)}  # fmt: skip
    return {name: rng.standard_normal(shape) / np.sqrt(shape[-1]) for name, shape in shapes.items()}


HEADS = st.sampled_from([(1, 1, 5), (2, 2, 16), (4, 2, 8), (3, 1, 33)])


@given(
    n_rows=st.integers(1, 70), C=st.sampled_from([1, 7, 32, 100]), heads=HEADS, F=st.sampled_from([1, 31, 64, 65]),
    window=st.sampled_from([None, 1, 3]), dtype=DTYPES, seed=st.integers(0, 99),
)  # fmt: skip
def test_a_network_is_what_the_twin_says_for_rows_of_any_number_and_length(n_rows, C, heads, F, window, dtype, seed):
    rng = np.random.default_rng(seed)
    weights, n_steps = network_weights(rng, C=C, heads=heads, F=F), 5
    shape = {"n_rows": n_rows, "heads": heads, "room": n_steps, "window": window}
    mine, first, last = write_network(kernels, weights, dtype=np.dtype(dtype), **shape)
    twin, twin_first, twin_last = write_network(reference, weights, dtype=np.dtype("f8"), **shape)
    slots, n = rng.permutation(n_rows), n_rows
    mine.slots[:] = twin.slots[:] = slots
    for _ in range(n_steps):
        x = rng.standard_normal((n, C)).astype(dtype)
        first[:n], twin_first[:n] = x, x
        mine.run(n)
        twin.run(n)
        assert_close(np.array(last[:n]), twin_last[:n], ulps=200, size=4.0)
        going_on = np.flatnonzero(rng.random(n) < 0.8)  # the others end; who goes on may now stand elsewhere
        if not len(going_on):
            break
        for program in (mine, twin):
            program.slots[: len(going_on)], program.lengths[: len(going_on)] = (
                program.slots[going_on], program.lengths[going_on] + 1
            )  # fmt: skip
        n = len(going_on)


@pytest.mark.parametrize("n_rows", [1, 13, 64])
def test_a_row_is_the_same_bits_whoever_runs_beside_it(n_rows):
    heads, rng = (4, 2, 8), np.random.default_rng(0)
    weights, dtype = network_weights(rng, C=32, heads=heads, F=40), np.dtype("f4")
    x = rng.standard_normal((3, 64, 32)).astype("f")
    program, first, last = write_network(kernels, weights, n_rows=64, heads=heads, dtype=dtype, room=3)
    alone, alone_first, alone_last = write_network(kernels, weights, n_rows=64, heads=heads, dtype=dtype, room=3)
    program.slots[:] = np.arange(64)
    for step in x:
        first[:], alone_first[0] = step, step[n_rows - 1]
        program.run(n_rows)
        alone.run(1)
        if kernels.backend() == "numba":
            np.testing.assert_array_equal(last[n_rows - 1], alone_last[0])
        else:  # BLAS chooses its way by the number of rows
            np.testing.assert_allclose(last[n_rows - 1], alone_last[0], atol=1e-6)
        program.lengths += 1
        alone.lengths += 1


def test_weights_are_copied_when_the_instruction_is_written():
    for home in (kernels, reference):
        program, weight, bias, gain = home.RowProgram(1, np.dtype("f8")), np.eye(3), np.ones(3), np.ones(3)
        x, y, z = (program.array(3) for _ in range(3))
        program.add(Linear(x, weight, bias, y))
        program.add(Norm(y, gain, bias, z, 0.0))
        weight[:] = bias[:] = gain[:] = 0
        x[0] = [1.0, 2.0, 3.0]
        program.run(1)
        assert y[0].tolist() == [2.0, 3.0, 4.0]
        np.testing.assert_allclose(z[0], [1 - 1.5**0.5, 1, 1 + 1.5**0.5])


def test_arrays_that_would_be_misread_are_refused():
    from tinyllm.kernels.program.row_program import RowProgram

    program = RowProgram(4, np.dtype("f4"))
    x, y, weight = program.array(3), program.array(5), np.ones((5, 3), np.float32)
    slot, ids = np.zeros((4, 1, 1, 9), "f4"), np.zeros((4, 1, 9, 1), "f4")
    for instruction in [
        Linear(x, weight.astype(float), None, y),
        Linear(y, weight, None, x),
        Linear(x, weight, np.ones(4, np.float32), y),
        Linear(x, weight, None, y, np.ones((3, 5), np.float32)),
        Norm(x, np.ones(2, np.float32), None, x, 1e-5),
        Norm(x, np.ones(3, np.float32), None, y, 1e-5),
        Int8Linear(x, weight.astype(np.int8), np.ones(4, np.float32), None, y),
        Elementwise("add", x, x, y),
        Attend(x, x[:, :1], x[:, :1], slot, np.zeros((4, 1, 8, 1), "f4"), x, 1.0),
        Attend(x, x[:, :2], x[:, :1], slot, ids, x, 1.0),
        Attend(x, x[:, :1], x[:, :1], np.zeros((9, 1, 1, 4), "f4").T, ids, x, 1.0),
        Rotary(x, np.ones((5, 1), "f4"), np.ones((5, 1), "f4"), y),
        Embedding(weight, y, TOKEN),
        Int8Embedding(weight.astype(np.int8), np.ones(4, np.float32), x, TOKEN),
    ]:
        with pytest.raises(ValueError, match=r"came, float32 \(.*expected"):
            program.add(instruction)
    for instruction in [
        Int8Linear(x, weight, np.ones(5, np.float32), None, y), Embedding(weight.astype(float), x, TOKEN),
        Int8Embedding(weight, np.ones(5, np.float32), x, TOKEN), Rotary(x, np.ones((5, 1)), np.ones((5, 1)), x),
        Elementwise("square", x, x), Elementwise("gelu", x, x, x), Elementwise("gate", x, x),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="came[,;] .*expected"):
            program.add(instruction)
    with pytest.raises(ValueError, match="run: 5 rows came, the program has room for 4"):
        program.run(5)


def both(n_rows, dtype):
    """A program and its twin, in float64, with tokens and lengths."""
    rng, programs = np.random.default_rng(0), []
    tokens, lengths = rng.integers(0, 9, n_rows), rng.integers(0, 7, n_rows)
    for home, kind in ((kernels, dtype), (reference, "f8")):
        program = home.RowProgram(n_rows, np.dtype(kind))
        program.tokens[:], program.lengths[:] = tokens, lengths
        programs.append(program)
    return programs


@given(n_rows=st.sampled_from([1, 5, 33]), heads=st.sampled_from([1, 3]), half=st.sampled_from([1, 4, 17]), dtype=DTYPES)
def test_rotary_embeddings_and_elementwise_are_what_the_twin_says(n_rows, heads, half, dtype):
    rng, width = np.random.default_rng(heads), heads * 2 * half
    table, codes, angles = rng.standard_normal((9, width)), rng.integers(-127, 128, (9, width)), rng.uniform(-3, 3, (7, half))
    found = []
    for program in both(n_rows, dtype):
        as_own = [x.astype(program.dtype) for x in (table, np.cos(angles), np.sin(angles), np.full(9, 0.01))]
        a, b, turned, out = (program.array(width) for _ in range(4))
        outs = [program.array(width) for _ in ELEMENTWISE]
        program.add(Embedding(as_own[0], a, TOKEN))
        program.add(Int8Embedding(codes.astype(np.int8), as_own[3], b, POSITION))
        program.add(Rotary(a, as_own[1], as_own[2], turned))
        program.add(Norm(turned, as_own[0][0, : 2 * half], None, out, 1e-5, rms=True))  # head by head
        for name, result in zip(ELEMENTWISE, outs, strict=True):
            program.add(Elementwise(name, turned, result, b if name in OF_TWO else None, factor=0.3))
        program.run(n_rows)
        found.append([np.array(x) for x in (a, b, turned, out, *outs)])
    for mine, twin in zip(*found, strict=True):
        assert_close(mine, twin, ulps=50, size=8.0)


@given(n_rows=st.sampled_from([1, 4, 7, 33]), n_in=st.sampled_from([1, 16, 37]), n_out=st.sampled_from([1, 5, 64]), dtype=DTYPES)
def test_int8_products_are_what_the_twin_says(n_rows, n_in, n_out, dtype):
    rng, found = np.random.default_rng(n_in), []
    x, weight = rng.standard_normal((n_rows, n_in)), rng.integers(-127, 128, (n_out, n_in)).astype(np.int8)
    scale, bias, residual = rng.random(n_out) / 100, rng.standard_normal(n_out), rng.standard_normal((n_rows, n_out))
    for program in both(n_rows, dtype):
        first, added, plain, whole = (program.array(n) for n in (n_in, n_out, n_out, n_out))
        scale_, bias_ = scale.astype(program.dtype), bias.astype(program.dtype)
        program.add(Int8Linear(first, weight, scale_, None, plain))
        program.add(Int8Linear(first, weight, scale_, bias_, whole, added))
        first[:], added[:] = x, residual
        program.run(n_rows)
        found.append((np.array(plain), np.array(whole)))
    for mine, twin in zip(*found, strict=True):
        assert_close(mine, twin, ulps=100, size=8.0)

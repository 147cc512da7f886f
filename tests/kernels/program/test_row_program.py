import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES
from twin import assert_close

from tinyllm import kernels
from tinyllm.kernels import reference


def write_network(home, weights, *, n_rows, heads, dtype, room):
    """norm, attention, its product and residual, RMS norm, GELU: as a program of `home`; returns it, its first and last array."""
    (n_heads, n_groups, width), C = heads, weights["norm"].size
    w = {name: array.astype(dtype) for name, array in weights.items()}
    program = home.RowProgram(n_rows, dtype)
    first, normed, stream, normed_again = (program.array(C) for _ in range(4))
    qkv, mixed = program.array((n_heads + 2 * n_groups) * width), program.array(n_heads * width)
    last = program.array(len(w["up"]))
    keys = np.zeros((n_rows, n_groups, width, room), dtype)
    values = np.zeros((n_rows, n_groups, room, width), dtype)
    program.norm(first, w["norm"], w["bias"], normed, eps=1e-5)
    program.linear(normed, w["qkv"], None, qkv)
    program.attend(qkv, keys, values, mixed, n_heads=n_heads, scale=width**-0.5)
    program.linear(mixed, w["out"], w["bias"], stream, residual=first)
    program.norm(stream, w["norm"], None, normed_again, eps=1e-6, rms=True)
    program.linear(normed_again, w["up"], w["up_bias"], last, gelu=True)
    return program, first, last


def network_weights(rng, *, C, heads, F):
    n_heads, n_groups, width = heads
    shapes = {"norm": (C,), "bias": (C,), "qkv": ((n_heads + 2 * n_groups) * width, C), "out": (C, n_heads * width), "up": (F, C),
              "up_bias": (F,)}  # fmt: skip
    return {name: rng.standard_normal(shape) / np.sqrt(shape[-1]) for name, shape in shapes.items()}


HEADS = st.sampled_from([(1, 1, 5), (2, 2, 16), (4, 2, 8), (3, 1, 33)])


@given(
    n_rows=st.integers(1, 70), C=st.sampled_from([1, 7, 32, 100]), heads=HEADS, F=st.sampled_from([1, 31, 64, 65]),
    dtype=DTYPES, seed=st.integers(0, 99),
)  # fmt: skip
def test_a_network_is_what_the_twin_says_for_rows_of_any_number_and_length(n_rows, C, heads, F, dtype, seed):
    rng = np.random.default_rng(seed)
    weights, n_steps = network_weights(rng, C=C, heads=heads, F=F), 5
    shape = {"n_rows": n_rows, "heads": heads, "room": n_steps}
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
        program.linear(x, weight, bias, y)
        program.norm(y, gain, bias, z, eps=0.0)
        weight[:] = bias[:] = gain[:] = 0
        x[0] = [1.0, 2.0, 3.0]
        program.run(1)
        assert y[0].tolist() == [2.0, 3.0, 4.0]
        np.testing.assert_allclose(z[0], [1 - 1.5**0.5, 1, 1 + 1.5**0.5])


def test_arrays_that_would_be_misread_are_refused():
    from tinyllm.kernels.program.row_program import RowProgram

    program = RowProgram(4, np.dtype("f4"))
    x, y, weight = program.array(3), program.array(5), np.ones((5, 3), np.float32)
    for call in [
        lambda: program.linear(x, weight.astype(float), None, y),
        lambda: program.linear(y, weight, None, x),
        lambda: program.linear(x, weight, np.ones(4, np.float32), y),
        lambda: program.linear(x, weight, None, y, residual=np.ones((3, 5), np.float32)),
        lambda: program.norm(x, np.ones(5, np.float32), None, x, eps=1e-5),
        lambda: program.attend(x, np.zeros((4, 1, 1, 9), "f4"), np.zeros((4, 1, 8, 1), "f4"), x, n_heads=1, scale=1.0),
        lambda: program.attend(x, np.zeros((9, 1, 1, 4), "f4").T, np.zeros((4, 1, 9, 1), "f4"), x[:, :1], n_heads=1, scale=1.0),
    ]:
        with pytest.raises(ValueError, match=r"came, float32 \(.*expected"):
            call()
    with pytest.raises(ValueError, match="run: 5 rows came, the program has room for 4"):
        program.run(5)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, LAYOUTS, laid_out, shapes
from twin import assert_close, in_float64, kernel_threads

from tinyllm import kernels
from tinyllm.kernels import reference

SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decays": [0.1]}


def four_arrays(shape, dtype, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    param, grad, exp_avg, exp_avg_sq = (rng.standard_normal(shape) for _ in range(4))
    return [np.asarray(x, dtype) for x in (param, scale * grad, scale * exp_avg, scale**2 * exp_avg_sq**2)]


@given(
    shape=st.one_of(st.just(()), shapes()),
    dtype=DTYPES,
    seed=st.integers(0, 2**32 - 1),
    layout=st.sampled_from(LAYOUTS),
    step=st.sampled_from([1, 2, 10, 100_000]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_one_step_matches_the_twin(shape, dtype, seed, layout, step, scale):
    mine = four_arrays(shape, dtype, seed, scale)
    mine[1] = laid_out(mine[1], layout)
    wanted = [in_float64(x.copy()) for x in mine]
    gradient = mine[1].copy()
    kernels.adamw_update(*([x] for x in mine), step=step, **SETTINGS)
    reference.adamw_update(*([x] for x in wanted), step=step, **SETTINGS)
    np.testing.assert_array_equal(mine[1], gradient)
    for result, exact, size in zip(mine, wanted, (2.0, 0.0, 4 * scale, 0.0), strict=True):
        assert result.dtype == dtype
        # 1 - beta2 keeps its digits only because it is worked out in double precision
        assert_close(result, exact, ulps=8, size=size)


@pytest.mark.parametrize("size", [8192, 8193, 50_000])
def test_many_steps_stay_with_the_twin_and_any_number_of_threads_gives_the_same_bits(size):
    import numba

    results = []
    for n_threads in (1, numba.config.NUMBA_NUM_THREADS):
        mine = four_arrays((size,), np.float32)
        with kernel_threads(n_threads):
            for step in range(1, 6):
                kernels.adamw_update(*([x] for x in mine), step=step, **SETTINGS)
        results.append(mine)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*results, strict=True))
    wanted = four_arrays((size,), np.float32)
    wanted = [in_float64(x) for x in wanted]
    for step in range(1, 6):
        reference.adamw_update(*([x] for x in wanted), step=step, **SETTINGS)
    for result, exact in zip(results[0], wanted, strict=True):
        assert_close(result, exact, ulps=32, size=4.0)


def test_the_first_step_moves_by_the_learning_rate_against_the_sign_of_the_gradient():
    """m̂ = g and √v̂ = |g|: the size of the gradient does not matter, its sign does (Kingma & Ba 2015, §2.1)."""
    param, grad = np.zeros(4), np.array([1e-3, -5.0, 2.0, 0.0])
    kernels.adamw_update([param], [grad], [np.zeros(4)], [np.zeros(4)], step=1, **(SETTINGS | {"eps": 1e-12}))
    np.testing.assert_allclose(param, [-0.01, 0.01, -0.01, 0.0], rtol=1e-6)


def test_decay_shrinks_a_parameter_without_gradient_and_leaves_the_averages_alone():
    param, zero = np.full(3, 2.0), np.zeros(3)
    exp_avg, exp_avg_sq = np.zeros(3), np.zeros(3)
    kernels.adamw_update([param], [zero], [exp_avg], [exp_avg_sq], step=1, **SETTINGS)
    np.testing.assert_allclose(param, 2.0 * (1 - 1e-2 * 0.1), rtol=1e-15)
    assert not exp_avg.any() and not exp_avg_sq.any()


def test_nan_in_the_gradient_reaches_exactly_its_parameter():
    arrays = four_arrays((40,), np.float32)
    arrays[1][17] = np.nan
    kernels.adamw_update(*([x] for x in arrays), step=3, **SETTINGS)
    for x in (arrays[0], arrays[2], arrays[3]):
        assert np.flatnonzero(np.isnan(x)).tolist() == [17]


def read_only(x):
    x.flags.writeable = False
    return x


WRONG = {  # which of params, grads, exp_avgs, exp_avg_sqs; what is done to it; what is said
    "transposed weight": (0, np.asfortranarray, r"params\[0\] is float32, with strides .* C-contiguous"),
    "read-only weight": (0, read_only, r"params\[0\] is float32, read-only; expected float32, writeable"),
    "weight of another dtype": (0, np.float64, r"exp_avgs\[0\] is float32, .* expected float64"),
    "half-precision weight": (0, np.float16, r"params\[0\] is float16, float32 or float64 expected"),
    "weight with its bytes swapped": (0, lambda x: x.astype(">f4"), "float32 or float64 expected"),
    "memory of another dtype": (2, np.float64, r"exp_avgs\[0\] is float64"),
    "memory of another shape": (3, lambda x: x[:2], r"exp_avg_sqs\[0\] has shape \(2, 4\), expected \(3, 4\)"),
    "read-only memory": (3, read_only, r"exp_avg_sqs\[0\] is float32, read-only"),
    "short gradient": (1, lambda x: x[:, :1], r"grads\[0\] is float32 \(3, 1\), expected float32 \(3, 4\)"),
    "gradient of whole numbers": (1, np.int64, r"grads\[0\] is int64"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_array_that_the_kernel_would_misread_is_refused_and_nothing_changes(name):
    from tinyllm.kernels.adamw import adamw_update

    place, change, text = WRONG[name]
    arrays = four_arrays((3, 4), np.float32)
    arrays[place] = change(arrays[place])
    before = [x.copy() for x in arrays]
    with pytest.raises(ValueError, match=text):
        adamw_update(*([x] for x in arrays), step=1, **SETTINGS)
    for x, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(x, was)


def test_lists_of_different_lengths_are_refused():
    from tinyllm.kernels.adamw import adamw_update

    param, grad, exp_avg, exp_avg_sq = four_arrays((3,), np.float32)
    with pytest.raises(ValueError, match="grads: 0 came for 1 params"):
        adamw_update([param], [], [exp_avg], [exp_avg_sq], step=1, **SETTINGS)
    with pytest.raises(ValueError, match="weight_decays: 0 came"):
        adamw_update([param], [grad], [exp_avg], [exp_avg_sq], step=1, **SETTINGS | {"weight_decays": []})


@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_gradients_of_another_float_dtype_are_read_as_numbers(kind):
    mine, wanted = four_arrays((3, 4), np.float32), four_arrays((3, 4), np.float32)
    mine[1] = mine[1].astype(kind)
    wanted[1] = mine[1].astype(np.float32)
    for arrays in (mine, wanted):
        kernels.adamw_update(*([x] for x in arrays), step=1, **SETTINGS)
    for i in (0, 2, 3):
        np.testing.assert_allclose(mine[i], wanted[i], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_weights_in_one_call_move_as_they_would_alone(dtype):
    """Sizes around the block of 8192, an empty weight and a scalar; each with its own decay."""
    shapes = [(3,), (8192,), (0,), (), (100, 90), (8193,), (5, 7)]
    together = list(zip(*(four_arrays(shape, dtype, seed) for seed, shape in enumerate(shapes)), strict=True))
    alone = [four_arrays(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    decays = [0.1 * i for i in range(len(shapes))]
    settings = SETTINGS | {"step": 3, "grad_scale": 0.25}
    kernels.adamw_update(*together, **settings | {"weight_decays": decays})
    for arrays, decay in zip(alone, decays, strict=True):
        kernels.adamw_update(*([x] for x in arrays), **settings | {"weight_decays": [decay]})
    for mine, wanted in zip(zip(*together, strict=True), alone, strict=True):
        assert [x.tobytes() for x in mine] == [x.tobytes() for x in wanted]


def test_gradients_are_scaled_first():
    scaled, plain = four_arrays((50,), np.float64), four_arrays((50,), np.float64)
    kernels.adamw_update(*([x] for x in scaled), step=2, grad_scale=0.125, **SETTINGS)
    plain[1] *= 0.125
    kernels.adamw_update(*([x] for x in plain), step=2, **SETTINGS)
    for got, wanted in zip(scaled[2:], plain[2:], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_sum_of_squares_of_many_arrays(dtype):
    rng = np.random.default_rng(0)
    shapes = [(8193,), (0, 3), (), (300, 200)]
    arrays = [*(np.asarray(rng.standard_normal(shape), dtype) for shape in shapes), np.ones((4, 6), dtype).T]
    wanted = sum(float(np.square(x.astype(np.float64)).sum()) for x in arrays)
    for sum_of_squares in (kernels.sum_of_squares, reference.sum_of_squares):
        assert sum_of_squares(arrays) == pytest.approx(wanted, rel=1e-6)
        assert sum_of_squares([]) == sum_of_squares(arrays[1:2]) == 0.0
    assert np.isnan(kernels.sum_of_squares([*arrays, np.array([np.nan], dtype)]))
    assert kernels.sum_of_squares([np.array([np.inf], dtype)]) == np.inf


def test_the_sum_of_squares_of_mixed_dtypes_is_taken_in_the_widest():
    arrays = [np.array([3.0], np.float32), np.array([1e60]), np.array([2.0], np.float16), np.array([2.0], ">f4")]
    for sum_of_squares in (kernels.sum_of_squares, reference.sum_of_squares):
        assert sum_of_squares(arrays) == pytest.approx(1e120)
        assert sum_of_squares([arrays[0], *arrays[2:]]) == pytest.approx(17)

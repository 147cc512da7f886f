"""The compiled attention against its twin: every shape, mask and layout, forward and backward."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm import kernels
from tinyllm.kernels import reference
from tinyllm.kernels.attention.visibility import CAUSAL, EVERYTHING, Visibility
from tinyllm.kernels.invariance import batch_invariant

LENGTHS = st.one_of(st.integers(0, 12), st.sampled_from([31, 32, 33, 64, 95, 96, 97, 130]))
# float32 rounds each of some hundred terms to 6e-8; the scores of normal numbers stay near 1
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def packed(rng, batch, length, heads, width, dtype):
    """Three arrays (B, T, H, D) that are slices of one (B, T, 3, H, D), as a fused projection leaves them."""
    return np.moveaxis(rng.standard_normal((batch, length, 3, heads, width)).astype(dtype), 2, 0)


def drawn_mask(rng, kind, batch, length):
    """None, a random mask, left padding, or a mask that hides everything of the first row of the batch."""
    if kind == "none":
        return None
    mask = rng.random((batch, length)) < 0.6
    if kind == "left":
        mask = np.arange(length) >= rng.integers(0, length + 1, (batch, 1))
    if kind == "all hidden":
        mask[:1] = False
    return mask


@given(
    lengths=st.tuples(LENGTHS, LENGTHS),
    heads=st.sampled_from([(1, 1), (2, 2), (4, 2), (6, 1)]),
    width=st.sampled_from([1, 5, 8, 16, 20, 32, 48, 64, 80]),
    batch=st.integers(0, 3),
    causal=st.booleans(),
    window=st.one_of(st.none(), st.integers(1, 5), st.sampled_from([16, 17, 40, 100])),
    prefixed=st.booleans(),
    kind=st.sampled_from(["none", "random", "left", "all hidden"]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_forward_and_backward_are_the_twins(lengths, heads, width, batch, causal, window, prefixed, kind, dtype):
    rng = np.random.default_rng(sum(lengths) + width)
    (n_queries, n_keys), (n_heads, n_groups) = lengths, heads
    query = packed(rng, batch, n_queries, n_heads, width, dtype)[0]
    _, key, value = packed(rng, batch, n_keys, n_groups, width, dtype)
    dout = rng.standard_normal(query.shape).astype(dtype)
    for array in (query, key, value, dout):
        array.flags.writeable = False
    prefix = rng.integers(0, n_keys + 1, batch) if causal and prefixed else None
    mask = drawn_mask(rng, kind, batch, n_keys)
    visible = Visibility(causal=causal, window=window if causal else None, prefix=prefix, key_mask=mask)
    settings = {"scale": width**-0.5, "visible": visible}
    out, log_normalizer = kernels.attention_forward(query, key, value, **settings)
    grads = kernels.attention_backward(dout, query, key, value, out, log_normalizer, **settings)
    assert out.dtype == log_normalizer.dtype == dtype and out.flags.c_contiguous
    if n_keys == 0:
        assert not out.any() and not grads[0].any() and np.isneginf(log_normalizer).all()
        return
    exact = [x.astype(np.float64) for x in (query, key, value)]
    expected, expected_normalizer = reference.attention_forward(*exact, **settings)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(log_normalizer, expected_normalizer, rtol=tolerance, atol=tolerance)
    expected_grads = reference.attention_backward(dout.astype(float), *exact, expected, expected_normalizer, **settings)
    for got, wanted in zip(grads, expected_grads, strict=True):
        assert got.dtype == dtype and got.flags.c_contiguous
        np.testing.assert_allclose(got, wanted, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("n_queries", [1, 3, 40])
def test_gradient_is_the_slope(n_queries):
    """Central differences in float64: (f(x + h) - f(x - h)) / 2h is off by about h² = 1e-10, and 1e-16 / h by rounding."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((1, n, h, 4)) for n, h in ((n_queries, 4), (45, 2), (45, 2))]
    settings = {"scale": 0.5, "visible": Visibility(causal=True, key_mask=np.arange(45)[None] > 2)}
    out, log_normalizer = kernels.attention_forward(*arrays, **settings)
    dout = rng.standard_normal(out.shape)
    grads = kernels.attention_backward(dout, *arrays, out, log_normalizer, **settings)
    for array, grad in zip(arrays, grads, strict=True):
        direction = rng.standard_normal(array.shape)
        start, slopes = array.copy(), []
        for step in (1e-5, -1e-5):
            array[...] = start + step * direction
            slopes.append(np.sum(dout * kernels.attention_forward(*arrays, **settings)[0]))
        array[...] = start
        np.testing.assert_allclose((slopes[0] - slopes[1]) / 2e-5, np.sum(grad * direction), rtol=1e-7)


@pytest.mark.parametrize("n_queries", [5, 70])
def test_future_keys_do_not_change_the_past_by_one_bit(n_queries):
    rng = np.random.default_rng(1)
    query, key, value = packed(rng, 2, n_queries, 3, 16, "f")
    before = kernels.attention_forward(query, key, value, scale=0.25, visible=CAUSAL)
    key[:, n_queries // 2 :], value[:, n_queries // 2 :] = 100, -100
    after = kernels.attention_forward(query, key, value, scale=0.25, visible=CAUSAL)
    assert np.array_equal(before[0][:, : n_queries // 2], after[0][:, : n_queries // 2])
    assert not np.array_equal(before[0], after[0])


@pytest.mark.parametrize("n_queries", [2, 50])
def test_padded_keys_count_for_nothing(n_queries):
    rng = np.random.default_rng(2)
    query, key, value = packed(rng, 1, n_queries, 2, 8, "d")
    wide_key, wide_value = (np.concatenate([np.full((1, 9, 2, 8), 50.0), x], axis=1) for x in (key, value))
    mask = np.arange(n_queries + 9)[None] >= 9
    plain, _ = kernels.attention_forward(query, key, value, scale=0.3, visible=CAUSAL)
    padded, _ = kernels.attention_forward(query, wide_key, wide_value, scale=0.3, visible=Visibility(causal=True, key_mask=mask))
    np.testing.assert_allclose(padded, plain, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("n_queries", [1, 40])
def test_a_row_that_sees_nothing_is_zero_and_finite(n_queries):
    query, key, value = packed(np.random.default_rng(3), 2, n_queries, 2, 8, "f")
    mask = np.zeros((2, n_queries), bool)
    out, log_normalizer = kernels.attention_forward(query, key, value, scale=1.0, visible=Visibility(key_mask=mask))
    grads = kernels.attention_backward(out, query, key, value, out, log_normalizer, scale=1.0, visible=Visibility(key_mask=mask))
    assert not out.any() and not any(grad.any() for grad in grads)
    assert not np.isnan(log_normalizer).any()


@pytest.mark.parametrize("n_queries", [4, 60])
def test_large_scores_do_not_overflow(n_queries):
    query, key, value = packed(np.random.default_rng(4), 1, n_queries, 1, 16, "f") * np.float32(100)
    out, log_normalizer = kernels.attention_forward(query, key, value, scale=1.0, visible=EVERYTHING)
    assert np.isfinite(out).all() and np.isfinite(log_normalizer).all()
    chosen = np.einsum("bthd,bshd->ts", query, key).argmax(1)  # with scores so far apart softmax is argmax
    np.testing.assert_allclose(out[0, :, 0], value[0, chosen, 0], rtol=1e-3)


def test_one_query_at_a_time_is_the_whole():
    rng = np.random.default_rng(5)
    query, key, value = packed(rng, 2, 100, 4, 32, "f")
    whole, _ = kernels.attention_forward(query, key, value, scale=0.2, visible=CAUSAL)
    for t in (0, 1, 50, 99):
        one, _ = kernels.attention_forward(query[:, t : t + 1], key[:, : t + 1], value[:, : t + 1], scale=0.2, visible=CAUSAL)
        np.testing.assert_allclose(one[:, 0], whole[:, t], rtol=2e-5, atol=2e-6)


def test_gradients_go_into_the_views_given():
    rng = np.random.default_rng(6)
    arrays = packed(rng, 2, 40, 3, 20, "f")
    out, log_normalizer = kernels.attention_forward(*arrays, scale=0.2, visible=CAUSAL)
    rest = (out, *arrays, out, log_normalizer)
    expected = kernels.attention_backward(*rest, scale=0.2, visible=CAUSAL)
    frame = np.full((2, 40, 3, 3, 21), np.nan, "f")
    views = tuple(np.moveaxis(frame[..., :20], 2, 0))
    assert kernels.attention_backward(*rest, scale=0.2, visible=CAUSAL, grads=views) is views
    for got, wanted in zip(views, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)
    assert np.isnan(frame[..., 20]).all()


@pytest.mark.parametrize("case", ["plain", "causal", "more queries", "masked"])
def test_chunks_of_keys_add_up_to_the_whole(case):
    """With one or two key/value heads, the keys are shared out among several tasks."""
    rng = np.random.default_rng(8)
    n_queries, n_keys = {"more queries": (900, 600)}.get(case, (70, 900))
    query = packed(rng, 1, n_queries, 2, 8, "d")[0]
    _, key, value = packed(rng, 1, n_keys, 1, 8, "d")
    mask = rng.random((1, n_keys)) < 0.5 if case == "masked" else None
    settings = {"scale": 0.3, "visible": Visibility(causal=case != "plain", key_mask=mask)}
    out, log_normalizer = reference.attention_forward(query, key, value, **settings)
    rest = (rng.standard_normal(query.shape), query, key, value, out, log_normalizer)
    grads = tuple(np.full(x.shape[:-1] + (9,), np.nan)[..., :8] for x in (query, key, value))
    kernels.attention_backward(*rest, **settings, grads=grads)
    for got, wanted in zip(grads, reference.attention_backward(*rest, **settings), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-11)


# ---- sequences end to end


def sequences(lengths, causal=True):
    """Sequences end to end with so many queries and keys each, (B, 2)."""
    places = np.stack([np.cumsum(lengths, axis=0) - lengths, lengths], axis=2).reshape(-1, 4)
    return Visibility(causal=causal, sequences=places.astype(np.int64))


RAGGED = [(5, 5), (0, 7), (33, 70), (3, 3), (0, 0), (130, 130), (1, 96), (40, 20)]  # queries and keys


def ragged(dtype, pairs=RAGGED):
    """(dout, query), (key, value), lengths: 4 heads that share 2, slices of wider arrays."""
    rng, lengths = np.random.default_rng(10), np.array(pairs)
    n_queries, n_keys = lengths.sum(axis=0)
    return packed(rng, 1, n_queries, 4, 16, dtype)[:2], packed(rng, 1, n_keys, 2, 16, dtype)[1:], lengths


def forward_and_backward(module, queries, keys, settings):
    (dout, query), (key, value) = queries, keys
    out, log_normalizer = module.attention_forward(query, key, value, **settings)
    grads = tuple(np.full_like(x, np.nan) for x in (query, key, value))  # each number must be written
    module.attention_backward(dout, query, key, value, out, log_normalizer, grads=grads, **settings)
    return out, log_normalizer, *grads


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sequence_comes_out_the_same_bit_for_bit_whatever_its_neighbours_are(dtype, causal):
    queries, keys, lengths = ragged(dtype)
    settings = {"scale": 0.25, "visible": Visibility(causal=causal)}
    ragged_settings = settings | {"visible": sequences(lengths, causal)}
    out, log_normalizer, *grads = forward_and_backward(kernels, queries, keys, ragged_settings)
    assert out.shape == grads[0].shape == queries[0].shape and log_normalizer.shape == (1, 4, lengths[:, 0].sum())
    t, s = 0, 0
    for n, m in lengths:
        mine = queries[:, :, t : t + n], keys[:, :, s : s + m]
        got = out[:, t : t + n], log_normalizer[..., t : t + n], grads[0][:, t : t + n], *(x[:, s : s + m] for x in grads[1:])
        alone = forward_and_backward(kernels, *mine, settings | {"visible": sequences(np.array([[n, m]]), causal)})
        assert all(np.array_equal(one, other) for one, other in zip(got, alone, strict=True))
        if n:
            plain = forward_and_backward(reference, *(x.astype(float) for x in mine), settings)
            for one, other in zip(got, plain, strict=True):
                np.testing.assert_allclose(one, other, rtol=10 * TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
        else:
            assert not grads[1][:, s : s + m].any() and not grads[2][:, s : s + m].any()
        t, s = t + n, s + m


def test_sequences_of_one_length_are_a_batch():
    rng = np.random.default_rng(11)
    query, key, value = packed(rng, 3, 50, 2, 8, "f")
    batch = kernels.attention_forward(query, key, value, scale=0.3, visible=CAUSAL)
    flat = [x.reshape(1, 150, 2, 8) for x in (query, key, value)]
    out, log_normalizer = kernels.attention_forward(*flat, scale=0.3, visible=sequences(np.full((3, 2), 50)))
    assert np.array_equal(out.reshape(3, 50, 2, 8), batch[0])
    assert np.array_equal(log_normalizer.reshape(2, 3, 50).swapaxes(0, 1), batch[1])


def test_the_gradient_of_a_ragged_batch_is_its_slope():
    queries, keys, lengths = ragged("float64")
    settings = {"scale": 0.25, "visible": sequences(lengths)}
    grads = forward_and_backward(kernels, queries, keys, settings)[2:]
    arrays, rng = [x.copy() for x in (queries[1], *keys)], np.random.default_rng(12)
    for array, grad in zip(arrays, grads, strict=True):
        direction = rng.standard_normal(array.shape)
        start, slopes = array.copy(), []
        for step in (1e-5, -1e-5):
            array[...] = start + step * direction
            slopes.append(np.sum(queries[0] * kernels.attention_forward(*arrays, **settings)[0]))
        array[...] = start
        np.testing.assert_allclose((slopes[0] - slopes[1]) / 2e-5, np.sum(grad * direction), rtol=1e-6)


@pytest.mark.parametrize("pairs", [[], [(0, 0)], [(0, 3)], [(2, 0)]], ids=str)
def test_a_ragged_batch_may_have_nothing_to_do(pairs):
    queries, keys, lengths = ragged("float32", np.array(pairs, int).reshape(-1, 2))
    out, log_normalizer, *grads = forward_and_backward(kernels, queries, keys, {"scale": 1, "visible": sequences(lengths)})
    assert not out.any() and not np.isnan(log_normalizer).any() and not any(grad.any() for grad in grads)


SAME_BITS = """
import numba, numpy as np
from tinyllm import kernels
from tinyllm.kernels.attention.visibility import CAUSAL, Visibility

rng = np.random.default_rng(7)
for B, T, S, H, G in ((3, 70, 110, 4, 2), (1, 500, 900, 2, 1), (1, 1, 3000, 12, 12), (2, 96, 96, 6, 6)):
    query = rng.standard_normal((B, T, H, 24)).astype("f")
    key, value = (rng.standard_normal((B, S, G, 24)).astype("f") for _ in range(2))
    results = []
    for n_threads in (1, 2, 4):
        numba.set_num_threads(n_threads)
        out, log_normalizer = kernels.attention_forward(query, key, value, scale=0.2, visible=CAUSAL)
        grads = kernels.attention_backward(out, query, key, value, out, log_normalizer, scale=0.2, visible=CAUSAL)
        results.append(b"".join(x.tobytes() for x in (out, log_normalizer, *grads)))
        if B == 1 and T > 100:
            places = np.array([[0, T - 40, 0, S - 300], [T - 40, 0, S - 300, 200], [T - 40, 40, S - 100, 100]])
            visible = Visibility(causal=True, sequences=places, window=150, prefix=np.array([30, 0, 0]))
            out, log_normalizer = kernels.attention_forward(query, key, value, scale=0.2, visible=visible)
            rest = (out, query, key, value, out, log_normalizer)
            grads = kernels.attention_backward(*rest, scale=0.2, visible=visible)
            results[-1] += b"".join(x.tobytes() for x in (out, log_normalizer, *grads))
    assert len(set(results)) == 1, (B, T, S, H, G)
"""


@pytest.mark.skipif(kernels.backend() == "numpy", reason="no threads")
def test_same_bits_on_1_2_and_4_threads():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    subprocess.run([sys.executable, "-c", SAME_BITS], check=True, env=environment, cwd=Path(__file__).parents[3])


def test_the_parts_of_a_long_cache_are_put_together():
    """One query over many chunks of keys, of which one is hidden whole and one holds by far the largest score."""
    rng = np.random.default_rng(9)
    query, (key, value) = rng.standard_normal((2, 1, 4, 16)), rng.standard_normal((2, 2, 1000, 2, 16))
    key[:, 500], mask = 20 * query[:, 0, ::2], np.ones((2, 1000), bool)
    mask[:, 100:350] = False
    settings = {"scale": 0.25, "visible": Visibility(causal=True, key_mask=mask)}
    got, wanted = (module.attention_forward(query, key, value, **settings) for module in (kernels, reference))
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-12)


@given(
    pairs=st.lists(st.tuples(st.sampled_from([0, 1, 2, 5, 40]), st.sampled_from([0, 1, 50, 96, 130])), min_size=1, max_size=4),
    heads=st.sampled_from([(2, 2), (4, 2), (3, 1)]),
    window=st.sampled_from([None, 3, 33]),
    prefixed=st.booleans(),
    cached=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_sequences_in_a_cache_with_room_are_the_twins(pairs, heads, window, prefixed, cached, dtype):
    """Each sequence's keys begin at a place of their own, and some keys belong to none."""
    rng, room, (n_heads, n_groups) = np.random.default_rng(len(pairs)), 200, heads
    n_queries, n_past = np.array(pairs).T
    n_keys = n_queries + n_past
    places = np.stack([np.cumsum(n_queries) - n_queries, n_queries, room * np.arange(len(pairs)), n_keys], axis=1)
    prefix = rng.integers(0, n_keys + 1) if prefixed else None
    visible = Visibility(causal=True, window=window, prefix=prefix, sequences=places, cached=cached)
    dout, query, _ = packed(rng, 1, int(n_queries.sum()), n_heads, 8, dtype)
    _, key, value = packed(rng, 1, room * len(pairs), n_groups, 8, dtype)
    got = forward_and_backward(kernels, (dout, query), (key, value), {"scale": 0.3, "visible": visible})
    exact = [x.astype(float) for x in (dout, query, key, value)]
    wanted = forward_and_backward(reference, exact[:2], exact[2:], {"scale": 0.3, "visible": visible})
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("window", [None, 7, 150])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.skipif(kernels.backend() == "numpy", reason="BLAS sums in an order of its own")
def test_a_text_cut_into_any_pieces_gives_the_bits_of_the_whole(dtype, window):
    rng, n = np.random.default_rng(0), 400
    query, key, value = (packed(rng, 1, n, heads, 16, dtype)[0] for heads in (4, 2, 2))
    visible = Visibility(causal=True, window=window)
    with batch_invariant():
        whole, _ = kernels.attention_forward(query, key, value, scale=0.25, visible=visible)
        for cuts in ([1, 2, 95, 96, 97, 193, 385], [200], [31, 33, 100, 384]):
            pieces = []
            for begin, end in zip([0, *cuts], [*cuts, n], strict=True):
                places = np.array([[0, end - begin, 0, end]])
                here = Visibility(causal=True, window=window, sequences=places, cached=True)
                pieces.append(kernels.attention_forward(query[:, begin:end], key, value, scale=0.25, visible=here)[0])
            assert np.array_equal(np.concatenate(pieces, axis=1), whole)


def test_one_token_a_row_gives_the_same_bits_whatever_the_other_rows_are():
    rng, lengths = np.random.default_rng(0), np.array([1, 96, 97, 300, 5])
    query, key, value = rng.standard_normal((1, 5, 4, 16), "f"), *rng.standard_normal((2, 1, 5 * 300, 2, 16), "f")
    places = np.stack([np.arange(5), np.ones(5, int), 300 * np.arange(5), lengths], axis=1)

    def attended(rows):
        here = places[rows] * [0, 1, 1, 1] + np.arange(len(rows))[:, None] * [1, 0, 0, 0]
        visible = Visibility(causal=True, sequences=here, cached=True)
        return kernels.attention_forward(query[:, rows], key, value, scale=0.25, visible=visible)[0]

    whole = attended([0, 1, 2, 3, 4])
    for rows in ([0], [3], [1, 2], [4, 0, 1], [2, 4]):
        assert np.array_equal(attended(rows), whole[:, rows])


def _shaped(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("arrays", "settings"),
    [
        ((_shaped(2, 3, 4, 8), _shaped(2, 5, 2, 8), _shaped(2, 5, 2, 8, dtype=np.float64)), {}),
        ((_shaped(2, 3, 4, 8), _shaped(2, 5, 3, 8), _shaped(2, 5, 3, 8)), {}),
        ((_shaped(2, 3, 4, 8), _shaped(1, 5, 2, 8), _shaped(1, 5, 2, 8)), {}),
        ((_shaped(2, 3, 4, 8), _shaped(2, 5, 2, 6), _shaped(2, 5, 2, 6)), {}),
        ((_shaped(2, 3, 4, 8), _shaped(2, 5, 2, 8), _shaped(2, 4, 2, 8)), {}),
        (
            (_shaped(2, 3, 4, 8), _shaped(2, 5, 2, 8), _shaped(2, 5, 2, 8)),
            {"visible": Visibility(key_mask=np.ones((2, 4), bool))},
        ),
        ((_shaped(1, 3, 4, 8), _shaped(1, 5, 2, 8), _shaped(1, 5, 2, 8)), {"visible": sequences(np.array([[3, 6]]))}),
    ],
)
def test_arrays_that_would_be_misread_are_refused(arrays, settings):
    from tinyllm.kernels.attention.forward import attention_forward

    with pytest.raises(ValueError, match="attention: .* came[;,] .*expected"):
        attention_forward(*arrays, **{"scale": 1.0, "visible": EVERYTHING, **settings})


def test_gradients_go_only_where_they_fit():
    from tinyllm.kernels.attention.forward import attention_backward

    query, key = _shaped(2, 3, 4, 8), _shaped(2, 5, 2, 8)
    sums = np.zeros((2, 4, 3), np.float32)
    right = {"scale": 1.0, "visible": EVERYTHING}
    for wrong in [(query[..., :4], query, sums, None), (query, query[:, :2], sums, None), (query, query, sums[:, :2], None),
                  (query, query, sums, (query.copy(), key.copy(), key[:, :2].copy())),
                  (query, query, sums, (query.copy(), key.copy(), np.broadcast_to(np.float32(0), key.shape)))]:  # fmt: skip
        dout, out, log_normalizer, grads = wrong
        with pytest.raises(ValueError, match="attention_backward: .* came"):
            attention_backward(dout, query, key, key, out, log_normalizer, grads=grads, **right)

"""What attention promises beyond its equation: who sees whom, and that the short ways are the long way."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm import Tensor, kernels, ops
from tinyllm.ops import CAUSAL, Visibility, causal_mask, end_to_end
from tinyllm.ops.plain_attention import attend as plainly
from tinyllm.ops.plain_attention import attend_backward

RNG = np.random.default_rng(0)


def qkv(B=2, T=6, S=6, H=4, G=4, D=8):
    return tuple(RNG.standard_normal(shape) for shape in [(B, T, H, D), (B, S, G, D), (B, S, G, D)])


def attend(query, key, value, bias=None, **settings):
    return ops.attention(query, key, value, bias, **settings).data


@given(st.integers(0, 5))
def test_future_tokens_do_not_change_past_outputs(t):
    query, key, value = qkv()
    before = attend(query, key, value, visible=CAUSAL)
    changed = [x.copy() for x in (query, key, value)]
    for x in changed:
        x[:, t + 1 :] = 1e3
    after = attend(*changed, visible=CAUSAL)
    np.testing.assert_array_equal(after[:, : t + 1], before[:, : t + 1])
    if t < 5:
        assert np.abs(after[:, t + 1 :] - before[:, t + 1 :]).min() > 1


def test_past_tokens_do_change_later_outputs():
    query, key, value = qkv()
    before = attend(query, key, value, visible=CAUSAL)
    value[:, 2] += 1
    changed = np.abs(attend(query, key, value, visible=CAUSAL) - before).max(axis=(0, 2, 3)) > 0
    assert changed.tolist() == [False, False, True, True, True, True]


def test_no_gradient_flows_from_the_past_to_the_future():
    tensors = [Tensor(x, requires_grad=True) for x in qkv()]
    ops.sum(ops.attention(*tensors, visible=CAUSAL)[:, :3]).backward()
    for tensor in tensors:
        assert (tensor.grad[:, 3:] == 0).all() and (tensor.grad[:, 0] != 0).any()


def test_a_key_mask_is_the_same_as_dropping_the_keys():
    query, key, value = qkv(B=1)
    seen = np.array([[True, False, True, True, False, True]])
    masked = attend(query, key, value, visible=Visibility(key_mask=seen))
    np.testing.assert_allclose(masked, attend(query, key[:, seen[0]], value[:, seen[0]]), atol=1e-14)


def test_masked_keys_may_hold_anything_finite():
    query, key, value = qkv()
    seen = np.ones((2, 6), bool)
    seen[:, :2] = False
    before = attend(query, key, value, visible=Visibility(causal=True, key_mask=seen))
    key[:, :2], value[:, :2] = 1e4, -1e4
    np.testing.assert_array_equal(attend(query, key, value, visible=Visibility(causal=True, key_mask=seen)), before)


def test_a_query_that_sees_nothing_gets_zeros_and_gives_no_gradient():
    tensors = [Tensor(x, requires_grad=True) for x in qkv()]
    seen = np.ones((2, 6), bool)
    seen[0, :2] = False  # left padding: with causal, queries 0 and 1 of row 0 have nothing
    out = ops.attention(*tensors, visible=Visibility(causal=True, key_mask=seen))
    ops.sum(out * out).backward()
    assert (out.data[0, :2] == 0).all() and (out.data[0, 2:] != 0).all()
    for tensor in tensors:
        assert np.isfinite(tensor.grad).all() and (tensor.grad[0, :2] == 0).all()


@pytest.mark.parametrize("T", [1, 2, 5])
def test_with_more_keys_than_queries_the_queries_are_the_last_ones(T):
    query, key, value = qkv()
    whole = attend(query, key, value, visible=CAUSAL)
    np.testing.assert_allclose(attend(query[:, -T:], key, value, visible=CAUSAL), whole[:, -T:], atol=1e-14)


def test_each_key_head_serves_its_group_of_query_heads():
    query, key, value = qkv(H=4, G=2)
    grouped = attend(query, key, value, visible=CAUSAL)
    repeated = attend(query, np.repeat(key, 2, axis=2), np.repeat(value, 2, axis=2), visible=CAUSAL)
    np.testing.assert_allclose(grouped, repeated, atol=1e-14)


def test_heads_and_rows_do_not_see_each_other():
    query, key, value = qkv()
    before = attend(query, key, value)
    key[1, :, 2] += 1.0
    changed = np.abs(attend(query, key, value) - before).max(axis=(1, 3)) > 0
    assert np.argwhere(changed).tolist() == [[1, 2]]


def test_permuting_keys_and_values_together_changes_nothing():
    query, key, value = qkv()
    order = RNG.permutation(6)
    np.testing.assert_allclose(attend(query, key[:, order], value[:, order]), attend(query, key, value), atol=1e-14)


def test_huge_scores_do_not_overflow():
    query, key, value = (x.astype(np.float32) for x in qkv())
    out = attend(query * 1e3, key * 1e3, value)
    assert np.isfinite(out).all() and np.abs(out).max() <= np.abs(value).max() * 1.001


def test_self_attention_is_attention_on_the_three_parts():
    packed = Tensor(RNG.standard_normal((2, 5, 3 * 12)), requires_grad=True)
    parts = [Tensor(x.reshape(2, 5, 3, 4), requires_grad=True) for x in np.split(packed.data, 3, axis=-1)]
    seen = RNG.random((2, 5)) < 0.7
    upstream = RNG.standard_normal((2, 5, 12))
    out = ops.self_attention(packed, n_heads=3, visible=Visibility(causal=True, key_mask=seen))
    apart = ops.attention(*parts, visible=Visibility(causal=True, key_mask=seen))
    out.backward(upstream)
    apart.backward(upstream.reshape(2, 5, 3, 4))
    np.testing.assert_allclose(out.data, apart.data.reshape(2, 5, 12), atol=1e-14)
    joined = np.concatenate([part.grad.reshape(2, 5, 12) for part in parts], axis=-1)
    np.testing.assert_allclose(packed.grad, joined, atol=1e-14)


@pytest.mark.parametrize(
    "shapes",
    [((2, 3, 4, 8), (2, 3, 3, 8), (2, 3, 3, 8)), ((2, 3, 4, 8), (2, 3, 4, 8), (2, 2, 4, 8)),
     ((2, 3, 4, 8), (1, 3, 4, 8), (1, 3, 4, 8)),
     ((2, 3, 4, 8), (2, 3, 4, 4), (2, 3, 4, 4)), ((2, 3, 4, 8), (2, 3, 0, 8), (2, 3, 0, 8)), ((3, 4, 8), (3, 4, 8), (3, 4, 8))],
    ids=str,
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match=r"attention: query .*expected"):
        ops.attention(*(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("mask", [np.ones((2, 5), bool), np.ones((2, 6)), np.ones(6, bool)], ids=["short", "float", "flat"])
def test_a_key_mask_that_does_not_fit_is_refused(mask):
    with pytest.raises(ValueError, match=r"key_mask .*bool \(B, S\) = \(2, 6\) expected"):
        ops.attention(*qkv(), visible=Visibility(key_mask=mask))


def test_a_width_that_is_not_three_times_the_heads_is_refused():
    with pytest.raises(ValueError, match="width 16 is not 3 x 2 heads"):
        ops.self_attention(np.zeros((1, 2, 16)), n_heads=2, visible=CAUSAL)


def test_two_dtypes_are_refused():
    query, key, value = qkv()
    with pytest.raises(ValueError, match="query float64, key float32"):
        ops.attention(query, key.astype(np.float32), value)


def test_sequences_end_to_end_do_not_see_each_other():
    packed, lengths = RNG.standard_normal((1, 40, 3 * 8)).astype("f"), np.array([7, 20, 0, 13])
    settings = {"n_heads": 2}
    whole = Tensor(packed, requires_grad=True)
    out = ops.self_attention(whole, visible=end_to_end(lengths), **settings)
    ops.sum(out * out).backward()
    for part in (slice(0, 7), slice(7, 27), slice(27, 40)):
        alone = Tensor(packed[:, part], requires_grad=True)
        one = ops.self_attention(alone, visible=CAUSAL, **settings)
        ops.sum(one * one).backward()
        np.testing.assert_allclose(out.data[:, part], one.data, atol=1e-6)
        np.testing.assert_allclose(whole.grad[:, part], alone.grad, atol=1e-5)


def test_positions_that_nobody_reads_are_left_out_and_get_no_gradient():
    packed, lengths = RNG.standard_normal((1, 40, 3 * 8)).astype("f"), np.array([7, 20, 0, 13])
    read = np.concatenate([np.arange(n) >= first for n, first in zip(lengths, (5, 0, 0, 13), strict=True)])
    settings = {"n_heads": 2}
    all_, some = (Tensor(packed, requires_grad=True) for _ in range(2))
    whole = ops.self_attention(all_, visible=end_to_end(lengths), **settings)
    part = ops.self_attention(some, visible=end_to_end(lengths, read=read), **settings)
    np.testing.assert_allclose(part.data, whole.data[:, read], atol=1e-6)  # other tiles, other last digits
    ops.sum(part * part).backward()
    ops.sum(whole[:, read] * whole[:, read]).backward()
    np.testing.assert_allclose(some.grad, all_.grad, atol=1e-5)
    assert not some.grad[:, 27:].any() and not some.grad[:, :5, :8].any() and some.grad[:, :5, 8:].any()


@pytest.mark.parametrize("lengths", [[2, 3], [3]], ids=str)
def test_sequences_that_do_not_cover_the_queries_are_refused(lengths):
    with pytest.raises(ValueError, match=r"sequences .* came, \(B, 4\) that cover 6 queries and lie within 6 keys expected"):
        ops.self_attention(np.zeros((1, 6, 12)), n_heads=2, visible=end_to_end(np.array(lengths)))


@pytest.mark.parametrize("lengths", [[7, -1], [[6]], [6.0]], ids=str)
def test_lengths_that_are_no_whole_numbers_are_refused(lengths):
    with pytest.raises(ValueError, match=r"lengths .* came, whole numbers \(B,\) expected, 0 or more"):
        end_to_end(np.array(lengths))


@pytest.mark.parametrize("read", [[True, False, True], [False, True], [0, 1, 1]], ids=str)
def test_only_the_last_positions_of_a_sequence_can_be_read(read):
    with pytest.raises(ValueError, match=r"read .* came, bool \(3,\) expected, True at the last positions"):
        end_to_end(np.array([3]), read=np.array(read))


def test_sequences_in_several_rows_are_refused():
    with pytest.raises(ValueError, match="all sequences in one row"):
        ops.self_attention(np.zeros((2, 3, 12)), n_heads=2, visible=end_to_end(np.array([3, 3])))


@pytest.mark.parametrize("settings", [{"window": 0}, {"window": 2.5}, {"window": True}, {"window": 3, "causal": False},
                                      {"prefix": np.array([1]), "causal": False}], ids=str)  # fmt: skip
def test_windows_and_prefixes_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValueError, match="window"):
        Visibility(**{"causal": True, **settings})


def test_a_window_hides_what_is_further_back_and_a_prefix_is_seen_by_all():
    query, key, value = qkv()
    windowed, prefixed = Visibility(causal=True, window=2), Visibility(causal=True, prefix=np.array([3, 0]))
    changed_key, changed_value = key.copy(), value.copy()
    changed_key[:, 2], changed_value[:, 2] = 5.0, 5.0
    for visible, seen in ((windowed, [0, 0, 1, 1, 0, 0]), (prefixed, [1, 1, 1, 1, 1, 1])):
        before, after = (attend(query, *kv, visible=visible) for kv in ((key, value), (changed_key, changed_value)))
        assert (np.abs(after - before).max(axis=(2, 3))[0] > 0).tolist() == [bool(s) for s in seen]


def test_a_bias_moves_attention_and_has_the_gradient_of_its_scores():
    query, key, value = qkv()
    to_third = np.where(np.arange(6) == 2, 1e3, 0.0)
    np.testing.assert_allclose(attend(query, key, value, to_third), np.broadcast_to(value[:, 2:3], value.shape), atol=1e-12)
    with pytest.raises(ValueError, match=r"bias \(5,\) came, what broadcasts to \(B, H, T, S\) = \(2, 4, 6, 6\) expected"):
        attend(query, key, value, np.zeros(5))
    with pytest.raises(ValueError, match="sequences end to end; give padded rows"):
        ops.attention(*qkv(B=1), np.zeros((6, 6)), visible=end_to_end(np.array([6])))


class Lists:
    """A cache in the plainest form."""

    def __init__(self, dtype=np.float64):
        self.keys = self.values = np.zeros((2, 0, 3, 4), dtype)

    def append(self, key, value):
        self.keys, self.values = np.concatenate([self.keys, key], axis=1), np.concatenate([self.values, value], axis=1)
        return self.keys, self.values


def test_pieces_with_a_cache_are_the_whole_without_one():
    x, cache = RNG.standard_normal((2, 9, 36)), Lists()
    mask = np.arange(9) >= np.array([[0], [3]])
    whole = ops.self_attention(x, n_heads=3, visible=Visibility(causal=True, key_mask=mask)).data
    pieces = [
        ops.self_attention(x[:, a:b], cache=cache, n_heads=3, visible=Visibility(causal=True, key_mask=mask[:, :b])).data
        for a, b in [(0, 5), (5, 6), (6, 9)]
    ]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-12)


def test_a_cache_that_does_not_fit_and_a_gradient_through_one_are_refused():
    x = np.zeros((2, 3, 36), np.float32)
    settings = {"n_heads": 3, "visible": CAUSAL}
    with pytest.raises(ValueError, match="width 36 is not 3 x 5 heads"):
        ops.self_attention(x, cache=Lists(np.float32), **settings | {"n_heads": 5})
    for mask in (np.ones((2, 4), bool), np.ones((1, 3), bool), np.ones((2, 3))):
        with pytest.raises(ValueError, match=r"key_mask .* came, bool \(B, S\) = \(2, 3\) expected"):
            ops.self_attention(x, cache=Lists(np.float32), n_heads=3, visible=Visibility(causal=True, key_mask=mask))
    with pytest.raises(ValueError, match="all float32 or all float64 expected"):
        ops.self_attention(x, cache=Lists(np.float64), **settings)
    qkv = Tensor(x, requires_grad=True)
    with pytest.raises(RuntimeError, match="attention to a cache has no gradient: it keeps numbers.*use no_grad"):
        ops.sum(ops.self_attention(qkv, cache=Lists(np.float32), **settings)).backward()


@pytest.mark.parametrize("shape", [(3, 4), (5, 3), (2, 1, 5, 5, 1), (3,)], ids=str)
def test_an_attention_mask_that_does_not_fit_is_refused(shape):
    query, key = np.zeros((2, 3, 2, 4)), np.zeros((2, 5, 2, 4))
    with pytest.raises(ValueError, match=r"attention_mask bool .* came, bool \(T, S\) = \(3, 5\) expected"):
        ops.attention(query, key, key, attention_mask=np.ones(shape, bool))
    with pytest.raises(ValueError, match="attention_mask float64"):
        ops.attention(query, key, key, attention_mask=np.ones((3, 5)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_plain_attention_is_what_the_fast_one_computes(dtype):
    """`plain_attention.py` is what a reader opens first: its eight lines and the tiles give the same."""
    rng = np.random.default_rng(0)
    query, key, value, dout = (rng.standard_normal((2, 6, 3, 8)).astype(dtype) for _ in range(4))
    out, P = plainly(query, key, value, mask=causal_mask(6, 6))
    assert out.dtype == P.dtype == dtype and np.allclose(P.sum(axis=-1), 1)
    tensors = [Tensor(x, requires_grad=True) for x in (query, key, value)]
    fast = ops.attention(*tensors, visible=CAUSAL)
    fast.backward(dout)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(fast.data, out, **tolerance)
    for tensor, gradient in zip(tensors, attend_backward(dout, (query, key, value), P)[:3], strict=True):
        np.testing.assert_allclose(tensor.grad, gradient, **tolerance)


def test_who_may_see_nothing_gets_zeros_and_gives_no_gradient():
    query, key, value = (Tensor(RNG.standard_normal((1, 2, 1, 4)), requires_grad=True) for _ in range(3))
    mask = np.array([[True, True], [False, False]])
    out = ops.attention(query, key, value, attention_mask=mask)
    ops.sum(out * out).backward()
    assert not out.data[:, 1].any() and not query.grad[:, 1].any() and np.isfinite(key.grad).all()


@pytest.mark.parametrize("settings", [{"window": 100}, {"prefix": np.array([300])}, {}], ids=str)
def test_memory_grows_with_the_length_and_not_with_its_square(settings):
    """Forward and backward at T = 3000 would need 36 MB for each T x T matrix of float32."""
    tensors = [Tensor(RNG.standard_normal((1, 3000, 2, 8)).astype("f"), requires_grad=True) for _ in range(3)]
    visible = Visibility(causal=True, **settings)
    ops.sum(ops.attention(*tensors, visible=visible)).backward()  # compiles
    tracemalloc.start()
    ops.sum(ops.attention(*tensors, visible=visible)).backward()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if kernels.backend() == "numba":
        assert peak < 40 * tensors[0].data.nbytes
    else:
        assert peak > 3000 * 3000 * 4  # the twin stores P: the measurement measures

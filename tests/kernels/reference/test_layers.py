"""The twins are what the kernels are measured by; they themselves are held against examples worked out by hand, and loops."""

import inspect

import numpy as np
import pytest

from tinyllm import kernels
from tinyllm.kernels import reference
from tinyllm.kernels.attention.visibility import Visibility


def test_every_kernel_has_a_twin_with_the_same_signature():
    for name in kernels.TABLE:
        mine, twin = (inspect.signature(getattr(home, name)).parameters.values() for home in (kernels, reference))
        assert [(p.name, p.kind, p.default) for p in mine] == [(p.name, p.kind, p.default) for p in twin], name


def test_softmax_of_logarithms_is_proportional_to_the_numbers():
    np.testing.assert_allclose(reference.softmax_forward(np.log([[1.0, 2.0, 5.0]])), [[0.125, 0.25, 0.625]])
    np.testing.assert_allclose(reference.log_softmax_forward(np.log([[1.0, 3.0]])), np.log([[0.25, 0.75]]))


def test_layer_norm_of_one_and_three():
    y, mean, rstd = reference.layer_norm_forward(np.array([[1.0, 3.0]]), np.array([2.0, 2.0]), np.array([0.0, 1.0]), 0.0)
    assert (y.tolist(), mean.tolist(), rstd.tolist()) == ([[-2.0, 3.0]], [2.0], [1.0])
    y, rstd = reference.rms_norm_forward(np.array([[3.0, -3.0]]), np.ones(2), 0.0)
    np.testing.assert_allclose(y, [[1.0, -1.0]])


def test_cross_entropy_of_odds_three_to_one():
    nll, normalizer = reference.cross_entropy_forward(np.log([[3.0, 1.0], [3.0, 1.0]]), np.array([0, 1]))
    np.testing.assert_allclose(nll, [np.log(4 / 3), np.log(4)])
    np.testing.assert_allclose(normalizer, [[np.log(3), 4 / 3]] * 2)  # 3/3 + 1/3


def attention_by_loops(query, key, value, scale, causal, key_mask, window, prefix):
    """One query at a time, one head at a time, only the keys it may see."""
    (batch, n_queries, n_heads, _), (n_keys, n_groups) = query.shape, key.shape[1:3]
    out = np.zeros_like(query)
    for b, t, h in np.ndindex(batch, n_queries, n_heads):
        g = h // (n_heads // n_groups)
        place = t + n_keys - n_queries
        seen = [s for s in range(n_keys) if key_mask[b, s] and (not causal or s <= place or s < prefix[b]) and s > place - window]
        if seen:
            weights = np.exp([scale * query[b, t, h] @ key[b, s, g] for s in seen])
            out[b, t, h] = weights @ value[b, seen, g] / weights.sum()
    return out


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 1), (True, 3)])
@pytest.mark.parametrize("prefix", [[0, 0], [3, 1]])
@pytest.mark.parametrize(("n_queries", "n_keys"), [(4, 4), (2, 5), (1, 6)])
def test_attention_is_what_the_loops_say(causal, window, prefix, n_queries, n_keys):
    rng = np.random.default_rng(0)
    query = rng.standard_normal((2, n_queries, 4, 3))
    key, value = rng.standard_normal((2, n_keys, 2, 3)), rng.standard_normal((2, n_keys, 2, 3))
    key_mask = np.ones((2, n_keys), bool)
    key_mask[1, :2] = False
    visible = Visibility(causal=causal, window=window, prefix=np.array(prefix) if causal else None, key_mask=key_mask)
    out, log_normalizer = reference.attention_forward(query, key, value, scale=0.5, visible=visible)
    expected = attention_by_loops(query, key, value, 0.5, causal, key_mask, window or 99, prefix)
    np.testing.assert_allclose(out, expected, atol=1e-14)
    assert not np.isnan(log_normalizer).any()


def test_attention_gradients_match_central_differences():
    from twin import assert_gradient, numeric_gradient

    rng = np.random.default_rng(0)
    query, dout = rng.standard_normal((2, 3, 4, 2)), rng.standard_normal((2, 3, 4, 2))
    key, value = rng.standard_normal((2, 5, 2, 2)), rng.standard_normal((2, 5, 2, 2))
    mask = np.array([[1, 1, 0, 1, 1], [0, 0, 0, 0, 1]], bool)
    settings = {"scale": 0.7, "visible": Visibility(causal=True, key_mask=mask)}
    out, log_normalizer = reference.attention_forward(query, key, value, **settings)
    grads = reference.attention_backward(dout, query, key, value, out, log_normalizer, **settings)
    arrays = [query, key, value]
    for i, grad in enumerate(grads):

        def forward(x, i=i):
            return reference.attention_forward(*arrays[:i], x, *arrays[i + 1 :], **settings)[0]

        assert_gradient(grad, numeric_gradient(forward, arrays[i], dout))


def test_rotary_turns_by_a_right_angle():
    x = np.arange(4.0).reshape(1, 1, 1, 4)
    y = reference.rotary_forward(x, np.zeros((1, 2)), np.ones((1, 2)), np.zeros((1, 1), int))
    assert y.tolist() == [[[[-2.0, -3.0, 0.0, 1.0]]]]


def test_matmul_broadcasts_and_writes_into_out():
    a, b = np.arange(12.0).reshape(2, 1, 2, 3), np.arange(6.0).reshape(3, 2)
    out = np.empty((2, 1, 2, 2))
    assert reference.matmul(a, b, out) is out
    np.testing.assert_array_equal(out, np.einsum("abmk,kn->abmn", a, b))


def test_float32_stays_float32():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 4), np.float32), rng.standard_normal(4, np.float32)
    results = [*reference.layer_norm_forward(x, w, w, 1e-5), *reference.rms_norm_forward(x, w, 1e-6)]
    for name in ("gelu_tanh", "gelu_erf", "silu"):
        results += [getattr(reference, f"{name}_forward")(x), getattr(reference, f"{name}_backward")(x, x)]
    for name in ("softmax", "log_softmax"):
        results += [getattr(reference, f"{name}_forward")(x), getattr(reference, f"{name}_backward")(x, x)]
    assert {result.dtype for result in results} == {np.dtype(np.float32)}

"""GPT: counts, invariances, learning, and what is refused. (Agreement with transformers: test_gpt_huggingface.py.)"""

import numpy as np
import pytest

from tinyllm import Tensor, no_grad, ops
from tinyllm.models import GPT, GPTConfig

SMALL = {"vocab_size": 61, "block_size": 16, "n_layers": 2, "n_heads": 2, "d_model": 16}


def make(seed=0, **changes):
    return GPT(GPTConfig(**{**SMALL, **changes}), rng=np.random.default_rng(seed))


@pytest.fixture(scope="module")
def lively():
    """A model whose weights are ten times as large, so that its logits are far apart and a small error would show."""
    model = make().eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.data *= 10
    return model


def tokens(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, 61, shape)


def logits(model, *arguments, **settings):
    with no_grad():
        return model(*arguments, **settings).data


def count_by_formula(config):
    """V·C + block·C for the tables; a block's attention 4 C² + 4 C, its feed-forward 2 CF + F + C, its norms 4 C; then 2 C."""
    C, F = config.d_model, config.d_feedforward
    weights = 4 * C * C + 2 * C * F + 2 * C
    biases = (3 + 1 + 1) * C + F + 2 * C
    per_block = weights + (biases if config.bias else 0)
    return (config.vocab_size + config.block_size) * C + config.n_layers * per_block + C * (2 if config.bias else 1)


# ---- size and start


def test_gpt2_small_has_its_published_number_of_parameters():
    assert count_by_formula(GPTConfig()) == 124_439_808
    assert GPT(GPTConfig(), rng=None).num_parameters() == 124_439_808  # zeros are not touched, so cost nothing


@pytest.mark.parametrize("changes", [{}, {"bias": False}, {"n_layers": 3, "d_model": 24, "vocab_size": 7}, {"n_inner": 40}])
def test_parameters_by_count_are_those_by_formula(changes):
    model = make(**changes)
    assert model.num_parameters() == count_by_formula(model.config)


@pytest.mark.parametrize("n_inner", [None, 64, 20])  # None and 4C = 64 are the same
def test_flops_are_two_per_weight_in_a_product_and_four_per_key_and_width(n_inner):
    model = make(n_inner=n_inner)
    C, L, V = 16, 2, 61
    matrices = [array for name, array in model.state_dict().items() if name.startswith("blocks") and array.ndim == 2]
    products = sum(array.size for array in matrices)
    assert products == (4 * C * C + 2 * C * (n_inner or 4 * C)) * L
    assert (model.config == make().config) == (n_inner != 20)
    assert model.flops_per_token(context=5) == 2 * (products + V * C) + 4 * L * C * 5
    assert model.flops_per_token() == model.flops_per_token(context=16)


def test_an_untrained_model_knows_nothing():
    loss = ops.cross_entropy(make()(tokens(8, 16)), tokens(8, 16, seed=2))
    assert abs(loss.item() - np.log(61)) < 0.05


def test_residual_projections_start_smaller():
    state = make(d_model=64, n_layers=8).state_dict()
    for name in ("attention.qkv", "feedforward.up"):
        assert state[f"blocks.0.{name}.weight"].std() == pytest.approx(0.02, rel=0.05)
    for name in ("attention.out", "feedforward.down"):
        assert state[f"blocks.7.{name}.weight"].std() == pytest.approx(0.02 / 4, rel=0.05)  # 2L = 16


def test_the_same_seed_gives_the_same_model_and_another_seed_another():
    first, second, other = (make(seed).state_dict() for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["tokens.weight"], other["tokens.weight"])


def test_without_bias_there_is_no_bias_anywhere():
    names = make(bias=False).state_dict()
    assert names and not any("bias" in name for name in names)
    assert np.isfinite(logits(make(bias=False), tokens(1, 4))).all()


def test_the_token_table_reads_in_and_scores_out():
    model = make()
    hidden = model.hidden(tokens(2, 5))
    np.testing.assert_allclose(model.logits(hidden).data, hidden.data @ model.tokens.weight.data.T, atol=1e-5)
    assert sum(name == "tokens.weight" for name, _ in model.named_parameters()) == 1


# ---- learning


def test_the_tied_table_gets_the_gradients_of_both_uses():
    model, x, y = make(), tokens(2, 5), tokens(2, 5, seed=2)
    table = model.tokens.weight
    ops.cross_entropy(model(x), y).backward()
    both = table.grad

    model.zero_grad()
    hidden = model.hidden(x)
    ops.cross_entropy(ops.linear(hidden, table.detach(), None), y).backward()  # read in only
    reading = table.grad
    scoring = Tensor(table.data, requires_grad=True)
    ops.cross_entropy(ops.linear(hidden.detach(), scoring, None), y).backward()  # scored out only
    np.testing.assert_allclose(both, reading + scoring.grad, atol=1e-7)
    assert np.abs(reading).max() > 1e-5 and np.abs(scoring.grad).max() > 1e-3


# ---- what is refused


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"d_model": 10, "n_heads": 4}, "d_model 10 is not divisible by n_heads 4; change one of them"),
        ({"n_layers": 0}, "n_layers must be a whole number of at least 1, got 0"),
        ({"vocab_size": 2.0}, "vocab_size must be a whole number of at least 1, got 2.0"),
        ({"block_size": True}, "block_size must be a whole number"),
        ({"dropout": 1.0}, "dropout must be a number of at least 0 and below 1, got 1.0"),
        ({"dropout": float("nan")}, "dropout must be .* got nan"),
        ({"dropout": "0.1"}, "dropout must be .* got '0.1'"),
        ({"n_inner": 0}, "n_inner must be a whole number of at least 1 or None, got 0"),
        ({"n_inner": "64"}, "n_inner must be a whole number of at least 1 or None, got '64'"),
        ({"bias": "no"}, "bias must be True or False, got 'no'"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        GPTConfig(**{**SMALL, **changes})


@pytest.mark.parametrize(
    "x, settings, text",
    [
        (np.zeros((1, 17), int), {}, "17 tokens came, the context holds block_size = 16; crop the text"),
        (np.zeros(4, int), {}, r"tokens must be \(B, T\) with at least one token, got shape \(4,\)"),
        (np.zeros((1, 0), int), {}, "at least one token"),
        (np.array([[61]]), {}, "id 61 is outside the vocabulary of 61"),
        (np.array([[-1]]), {}, "id -1 is outside"),
        (np.array([[0.5]]), {}, "ids must be integers, got float64"),
        (
            np.zeros((2, 4), int),
            {"attention_mask": np.ones((2, 3), bool)},
            r"bool of the tokens' shape \(2, 4\), got bool \(2, 3\)",
        ),
        (np.zeros((2, 4), int), {"attention_mask": np.ones((2, 4))}, "attention_mask must be bool"),
    ],
)
def test_tokens_that_cannot_be_read_are_refused(x, settings, text):
    with pytest.raises(ValueError, match=text):
        make()(x, **settings)


def test_a_cache_is_refused_while_recording_when_full_and_for_another_batch():
    model = make()
    cache = model.new_cache(1, max_length=3)
    with pytest.raises(ValueError, match=r"call the model under no_grad\(\)"):
        model(tokens(1, 2), cache=cache)
    with no_grad():
        model(tokens(1, 2), cache=cache)
        with pytest.raises(ValueError, match="room for 3 positions, row 0 has 2 and 2 more came"):
            model(tokens(1, 2), cache=cache)
        with pytest.raises(ValueError, match="cache holds 1 rows, tokens have 2"):
            model(tokens(2, 1), cache=cache)
        with pytest.raises(ValueError, match="17 tokens came, the context holds block_size = 16"):
            long = model.new_cache(1, max_length=99)
            model(tokens(1, 16), cache=long)
            model(tokens(1, 1), cache=long)


def test_padding_takes_columns_but_no_positions():
    model = GPT(GPTConfig(vocab_size=7, block_size=4, n_layers=1, n_heads=1, d_model=4), rng=np.random.default_rng(0))
    tokens = np.array([[1, 2, 3, 4, 0, 0], [0, 0, 5, 6, 3, 1]])  # six columns, four real tokens in each row
    mask = np.array([[True] * 4 + [False] * 2, [False] * 2 + [True] * 4])
    both = model(tokens, attention_mask=mask).data
    np.testing.assert_allclose(both[0, :4], model(tokens[:1, :4]).data[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both[1, 2:], model(tokens[1:, 2:]).data[0], rtol=1e-5, atol=1e-6)
    mask[0, 4] = True
    with pytest.raises(ValueError, match="5 tokens came"):
        model(tokens, attention_mask=mask)


@pytest.mark.parametrize("read_from", [-1, 15, 1.5, True, [1, 2], [[1], [2], [3]], [0, 0, -1]], ids=str)
def test_a_column_that_is_none_is_refused(read_from):
    given = read_from if isinstance(read_from, int | float) else np.array(read_from)
    with pytest.raises(ValueError, match="read_from is .*; expected a whole number from 0 to 14, or one for each of the 3 rows"):
        make().hidden(tokens(3, 14), read_from=given)

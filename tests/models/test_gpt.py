"""GPT: counts, invariances, learning, and what is refused. (Agreement with transformers: test_gpt_huggingface.py.)"""

import numpy as np
import pytest

from tinyllm import Tensor, kernels, no_grad, ops
from tinyllm.models import GPT, GPTConfig
from tinyllm.optim import AdamW

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


def test_a_tiny_model_overfits_one_batch():
    model = make(dropout=0.0)
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    batch = tokens(4, 17)
    for _ in range(60):
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(batch[:, :-1]), batch[:, 1:])
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert (logits(model.eval(), batch[:, :-1]).argmax(-1) == batch[:, 1:]).mean() > 0.95


def test_training_twice_gives_the_same_bits():
    def train():
        model = make(dropout=0.1)
        optimizer = AdamW(model.parameters(), lr=1e-2)
        for step in range(5):
            optimizer.zero_grad()
            ops.cross_entropy(model(tokens(2, 8, seed=step)), tokens(2, 8, seed=step + 1)).backward()
            optimizer.step()
        return model.state_dict()

    first, second = train(), train()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_micro_batches_add_up_to_one_batch():
    model, x, y = make(), tokens(6, 8), tokens(6, 8, seed=2)
    mask = np.random.default_rng(0).random((6, 8)) < 0.7

    def gradients(*parts):
        model.zero_grad()
        for rows in parts:
            ops.cross_entropy(model(x[rows]), y[rows], loss_mask=mask[rows], n_counted=mask.sum()).backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    whole, pieces = gradients(slice(0, 6)), gradients(slice(0, 1), slice(1, 4), slice(4, 6))
    for name, gradient in whole.items():
        np.testing.assert_allclose(pieces[name], gradient, atol=1e-6 * max(1, np.abs(gradient).max()), err_msg=name)


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


def test_every_weight_gets_a_gradient():
    model = make()
    ops.cross_entropy(model(tokens(2, 16)), tokens(2, 16, seed=2)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


def test_gradients_in_float64_are_the_slopes():
    model = make(d_model=4, block_size=4, vocab_size=5, n_layers=1)
    for _, parameter in model.named_parameters():
        parameter.data = parameter.data.astype(np.float64) * 20
    x, y = np.array([[0, 4, 2]]), np.array([[4, 2, 1]])

    def loss():
        return ops.cross_entropy(model(x), y)

    loss().backward()
    for name, parameter in model.named_parameters():
        index = np.unravel_index(np.abs(parameter.grad).argmax(), parameter.shape)
        kept = parameter.data[index]
        sides = []
        for step in (1e-6, -1e-6):
            parameter.data[index] = kept + step
            with no_grad():
                sides.append(loss().item())
        parameter.data[index] = kept
        assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(parameter.grad[index], rel=1e-5, abs=1e-8), name


# ---- invariances


def test_future_tokens_do_not_change_past_logits(lively):
    x = tokens(1, 10)
    before = logits(lively, x)
    x[0, 6] = (x[0, 6] + 1) % 61
    after = logits(lively, x)
    np.testing.assert_array_equal(after[:, :6], before[:, :6])
    assert np.abs(after[:, 6:] - before[:, 6:]).max(axis=-1).min() > 1e-3


@pytest.mark.parametrize("cuts", [[1] * 12, [12], [5, 1, 1, 5], [1, 11]])
def test_cached_in_chunks_is_uncached(lively, cuts):
    x = tokens(3, 12)
    cache = lively.new_cache(3)
    with no_grad():
        pieces = [lively(piece, cache=cache).data for piece in np.split(x, np.cumsum(cuts)[:-1], axis=1)]
    assert cache.length == 12
    whole = logits(lively, x)
    assert np.abs(whole).max() > 2
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)


def padded(rows, width):
    """Rows of different length, padded on the left; and the mask."""
    x, mask = np.full((len(rows), width), 7), np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        x[i, width - len(row) :], mask[i, width - len(row) :] = row, True
    return x, mask


def test_left_padded_is_unpadded(lively):
    rows = [tokens(n, seed=n) for n in (3, 8, 1, 10)]
    x, mask = padded(rows, 10)
    batched = logits(lively, x, attention_mask=mask)
    assert np.isfinite(batched).all()
    for i, row in enumerate(rows):
        np.testing.assert_allclose(batched[i, -len(row) :], logits(lively, row[None])[0], atol=1e-5)


def scattered(rows, width, seed=0):
    """Rows of different length with padding anywhere, even between two tokens; and the mask."""
    rng = np.random.default_rng(seed)
    x, mask = rng.integers(0, 61, (len(rows), width)), np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        mask[i, rng.permutation(width)[: len(row)]] = True
        x[i, mask[i]] = row
    return x, mask


def test_padding_anywhere_changes_nothing_and_gives_zeros(lively):
    rows = [tokens(n, seed=n) for n in (5, 16, 0, 9, 1)]
    x, mask = scattered(rows, 20)
    hidden = lively.hidden(x, attention_mask=mask).data
    assert not hidden[~mask].any()
    for i, row in enumerate(rows):
        if len(row):
            np.testing.assert_allclose(hidden[i, mask[i]], lively.hidden(row[None]).data[0], atol=1e-5)
    assert not lively.hidden(x, attention_mask=np.zeros_like(mask)).data.any()


@pytest.mark.skipif(kernels.backend() == "numpy", reason="BLAS sums a row in an order that depends on the other rows")
def test_a_text_gives_the_same_bits_whatever_it_is_padded_and_batched_with(lively):
    """With more than 32 tokens in all: fewer are multiplied another way (kernels/product/matrix_vector.py)."""
    rows = [tokens(n, seed=n) for n in (11, 16, 9, 14, 16)]
    x, mask = padded(rows, 16)
    together = logits(lively, x, attention_mask=mask)
    for subset in ([0, 1, 2], [3, 0, 2], [4, 3, 1], [2, 3, 4]):
        other, other_mask = scattered([rows[i] for i in subset], 18)
        apart = logits(lively, other, attention_mask=other_mask)
        for i, j in enumerate(subset):
            assert np.array_equal(apart[i, other_mask[i]], together[j, mask[j]])


def in_double(model):
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64)
    return model


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_a_padded_batch_has_the_gradient_of_its_texts():
    model, rows = in_double(make(init_std=0.2)), [tokens(n, seed=n) for n in (3, 12, 7)]
    x, mask = scattered(rows, 14)
    weights = np.random.default_rng(0).standard_normal((3, 14, 61))
    together = gradients_of(model, ops.sum(model(x, attention_mask=mask)[mask] * weights[mask]))
    apart = gradients_of(model, sum(ops.sum(model(row[None])[0] * weights[i][mask[i]]) for i, row in enumerate(rows)))
    for name, gradient in together.items():
        np.testing.assert_allclose(gradient, apart[name], rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("read_from", [9, [4, 13, 0], [14, 14, 14]], ids=str)
@pytest.mark.parametrize("n_layers", [1, 3])
def test_what_nobody_reads_is_left_out_and_nothing_else_changes(read_from, n_layers):
    model, rows = in_double(make(init_std=0.2, n_layers=n_layers)), [tokens(n, seed=n) for n in (3, 12, 7)]
    for x, mask in ((tokens(3, 14), None), padded(rows, 14)):
        real = np.ones(x.shape, bool) if mask is None else mask
        read = real & (np.arange(14) >= np.reshape(read_from, (-1, 1)))
        weights = np.random.default_rng(0).standard_normal((3, 14, 16))
        some, whole = model.hidden(x, attention_mask=mask, read_from=np.array(read_from)), model.hidden(x, attention_mask=mask)
        np.testing.assert_allclose(some.data, whole.data * read[..., None], rtol=1e-10, atol=1e-12)
        expected = gradients_of(model, ops.sum(whole * (weights * read[..., None])))
        for name, gradient in gradients_of(model, ops.sum(some * weights)).items():
            np.testing.assert_allclose(gradient, expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_dropout_of_a_padded_batch_drops_and_repeats():
    rows = [tokens(n, seed=n) for n in (3, 12)]
    x, mask = padded(rows, 12)
    first, again, other = (make(seed, dropout=0.3).hidden(x, attention_mask=mask).data for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    model = make(dropout=0.3)
    dropped, next_ = (model.hidden(x, attention_mask=mask, read_from=5).data for _ in range(2))
    assert not np.array_equal(dropped, next_) and not np.array_equal(dropped, model.eval().hidden(x, attention_mask=mask).data)


def test_left_padded_and_cached_is_unpadded(lively):
    rows = [tokens(n, seed=n) for n in (3, 8)]
    x, mask = padded(rows, 8)
    cache = lively.new_cache(2, max_length=12)
    more = tokens(2, 3, seed=5)
    with no_grad():
        lively(x, cache=cache, attention_mask=mask)
        for t in range(3):
            mask = np.concatenate([mask, np.ones((2, 1), bool)], axis=1)
            last = lively(more[:, t : t + 1], cache=cache, attention_mask=mask).data
    for i, row in enumerate(rows):
        np.testing.assert_allclose(last[i, 0], logits(lively, np.concatenate([row, more[i]])[None])[0, -1], atol=1e-5)


def test_selected_cache_rows_continue_as_if_read_anew(lively):
    x = tokens(2, 6)
    cache = lively.new_cache(2)
    with no_grad():
        lively(x[:, :5], cache=cache)
        cache.select(np.array([1, 1, 0]))
        continued = lively(np.stack([x[1, 5:], x[0, 5:], x[0, 5:]]), cache=cache).data
    for row, (start, end) in zip(continued, [(1, 1), (1, 0), (0, 0)], strict=True):
        whole = np.concatenate([x[start, :5], x[end, 5:]])[None]
        np.testing.assert_allclose(row[-1], logits(lively, whole)[0, -1], atol=1e-5)


def test_rows_of_a_batch_do_not_see_each_other(lively):
    x = tokens(3, 7)
    np.testing.assert_allclose(logits(lively, x)[1], logits(lively, x[1:2])[0], atol=1e-6)


def test_dropout_is_on_in_training_and_off_in_eval():
    model = make(dropout=0.5)
    x = tokens(1, 8)
    assert np.abs(logits(model, x) - logits(model, x)).max() > 1e-3
    model.eval()
    np.testing.assert_array_equal(logits(model, x), logits(model, x))


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
            r"bool of shape \(B, S\) = \(2, 4\), got bool \(2, 3\)",
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
        with pytest.raises(ValueError, match="room for 3 positions, 2 are filled and 2 more came"):
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

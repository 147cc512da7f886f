"""What every registered model must do (`models.MODELS`): a new one is in here as soon as it has a tiny shape below."""

import dataclasses

import numpy as np
import pytest

from tinyllm import kernels, no_grad, ops
from tinyllm.compile import step as compiled_step
from tinyllm.decoding import generate
from tinyllm.kernels.invariance import batch_invariant
from tinyllm.models import GPT, MODELS, GPTConfig, Llama, LlamaConfig, load_model
from tinyllm.models.decoder import Decoder
from tinyllm.nn import Attention, FeedForward, LayerNorm, ParallelBlock, Rotary, add_lora, lora_disabled, merge_lora, quantize
from tinyllm.optim import AdamW
from tinyllm.storage import safetensors

SMALL = {"vocab_size": 61, "block_size": 16, "n_layers": 2, "n_heads": 2, "d_model": 16}


def llama(rng, **shape):
    return Llama(LlamaConfig(**{"n_kv_heads": 1, "n_inner": 24, **shape}), rng=rng)


@dataclasses.dataclass(frozen=True)
class ToyConfig(GPTConfig):
    """GPT's sizes; one key/value head."""

    n_groups = 1


class Toy(Decoder):
    """A model made of nn's parts in a few lines: parallel blocks, one key/value head, no biases, positions by angles."""

    Config, layout = ToyConfig, None

    def __init__(self, config, *, rng):
        super().__init__(config, rng=rng)
        C, self.rotary = config.d_model, Rotary(config.d_head)
        self.blocks = [
            ParallelBlock(
                norm=LayerNorm(C, bias=False),
                attention=Attention(C, config.n_heads, n_kv_heads=1, rotary=self.rotary, std=config.init_std, rng=rng),
                feedforward=FeedForward(C, config.d_feedforward, bias=False, std=config.init_std, rng=rng),
                dropout=self.dropout,
            )
            for _ in range(config.n_layers)
        ]
        self.norm = LayerNorm(C, bias=False)

    def kept_per_token(self):
        return 0


TINY = {
    "toy": lambda rng, **shape: Toy(ToyConfig(**shape), rng=rng),
    "gpt2": lambda rng, **shape: GPT(GPTConfig(**shape), rng=rng),
    "llama": llama,
    "mistral": lambda rng, **shape: llama(rng, **{"window": 5, **shape}),
    "qwen2": lambda rng, **shape: llama(rng, **{"qkv_bias": True, "tied": True, **shape}),
    "qwen3": lambda rng, **shape: llama(rng, **{"qk_norm": True, "head_dim": 6, "n_kv_heads": 2, **shape}),
}
PARAMETERS = {  # by formula
    "toy": lambda V, T, L, C, F, H, G, D: V * C + L * (2 * C * (H + G) * D + 2 * C * F + C) + C,
    "gpt2": lambda V, T, L, C, F, H, G, D: V * C + T * C + L * (4 * C * C + 2 * C * F + F + 9 * C) + 2 * C,
    "llama": lambda V, T, L, C, F, H, G, D: 2 * V * C + L * (2 * C * (H + G) * D + 3 * C * F + 2 * C) + C,
    "mistral": lambda V, T, L, C, F, H, G, D: 2 * V * C + L * (2 * C * (H + G) * D + 3 * C * F + 2 * C) + C,
    "qwen2": lambda V, T, L, C, F, H, G, D: V * C + L * (2 * C * (H + G) * D + (H + 2 * G) * D + 3 * C * F + 2 * C) + C,
    "qwen3": lambda V, T, L, C, F, H, G, D: 2 * V * C + L * (2 * C * (H + G) * D + 2 * D + 3 * C * F + 2 * C) + C,
}


KINDS = [*MODELS, "toy"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def make(kind, seed=0, **changes):
    return TINY[kind](np.random.default_rng(seed), **{**SMALL, **changes})


@pytest.fixture(scope="module", params=KINDS)
def lively(request):
    """A model whose weights are ten times as large, so that its logits are far apart and a small error would show."""
    model = make(request.param).eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.data *= 10
    return model


def tokens(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, 61, shape)


def logits(model, *arguments, **settings):
    with no_grad():
        return model(*arguments, **settings).data


def test_every_registered_model_has_a_tiny_shape():
    assert TINY.keys() == PARAMETERS.keys() == {*MODELS, "toy"}


def test_parameters_by_formula_are_those_that_are_counted(kind):
    model = make(kind)
    shape = model.config
    sizes = shape.vocab_size, shape.block_size, shape.n_layers, shape.d_model, shape.d_feedforward
    assert model.num_parameters() == PARAMETERS[kind](*sizes, shape.n_heads, shape.n_groups, shape.d_head)


def test_a_tiny_model_overfits_one_batch(kind):
    model = make(kind, dropout=0.0)
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    batch = tokens(4, 17)
    for _ in range(60):
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(batch[:, :-1]), batch[:, 1:])
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert (logits(model.eval(), batch[:, :-1]).argmax(-1) == batch[:, 1:]).mean() > 0.95


def test_training_twice_gives_the_same_bits(kind):
    def train():
        model = make(kind, dropout=0.1)
        optimizer = AdamW(model.parameters(), lr=1e-2)
        for step in range(5):
            optimizer.zero_grad()
            ops.cross_entropy(model(tokens(2, 8, seed=step)), tokens(2, 8, seed=step + 1)).backward()
            optimizer.step()
        return model.state_dict()

    first, second = train(), train()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_micro_batches_add_up_to_one_batch(kind):
    model, x, y = make(kind), tokens(6, 8), tokens(6, 8, seed=2)
    mask = np.random.default_rng(0).random((6, 8)) < 0.7

    def gradients(*parts):
        model.zero_grad()
        for rows in parts:
            ops.cross_entropy(model(x[rows]), y[rows], loss_mask=mask[rows], n_counted=mask.sum()).backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    whole, pieces = gradients(slice(0, 6)), gradients(slice(0, 1), slice(1, 4), slice(4, 6))
    for name, gradient in whole.items():
        np.testing.assert_allclose(pieces[name], gradient, atol=1e-6 * max(1, np.abs(gradient).max()), err_msg=name)


def test_every_weight_gets_a_gradient(kind):
    model = make(kind)
    ops.cross_entropy(model(tokens(2, 16)), tokens(2, 16, seed=2)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


def test_gradients_in_float64_are_the_slopes(kind):
    model = make(kind, d_model=4, block_size=4, vocab_size=5, n_layers=1)
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
    assert cache.lengths.tolist() == [12] * 3
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


@pytest.mark.skipif(kernels.backend() == "numpy", reason="BLAS sums a row in an order that depends on the other rows")
@pytest.mark.parametrize("cuts", [[1] * 16, [16], [5, 1, 1, 9], [1, 15], [3, 13]])
def test_a_row_s_bits_depend_neither_on_its_neighbours_nor_on_how_its_prompt_was_cut(lively, cuts):
    """What a server asks for (kernels/invariance.py)."""
    rows = [tokens(16, seed=n) for n in range(3)]
    with batch_invariant():
        alone = [logits(lively, row[None])[0] for row in rows]
        for chosen in ([0], [2, 1], [0, 1, 2]):
            cache, x = lively.new_cache(len(chosen)), np.stack([rows[i] for i in chosen])
            pieces = [logits(lively, piece, cache=cache) for piece in np.split(x, np.cumsum(cuts)[:-1], axis=1)]
            whole = np.concatenate(pieces, axis=1)
            for row, i in zip(whole, chosen, strict=True):
                assert np.array_equal(row, alone[i])


def in_double(model):
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64)
    return model


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    if grads.get("head.weight", 0) is None:  # a loss of the stream alone does not reach it
        del grads["head.weight"]
    return grads


def test_a_padded_batch_has_the_gradient_of_its_texts(kind):
    model, rows = in_double(make(kind, init_std=0.2)), [tokens(n, seed=n) for n in (3, 12, 7)]
    x, mask = scattered(rows, 14)
    weights = np.random.default_rng(0).standard_normal((3, 14, 61))
    together = gradients_of(model, ops.sum(model(x, attention_mask=mask)[mask] * weights[mask]))
    apart = gradients_of(model, sum(ops.sum(model(row[None])[0] * weights[i][mask[i]]) for i, row in enumerate(rows)))
    for name, gradient in together.items():
        np.testing.assert_allclose(gradient, apart[name], rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("read_from", [9, [4, 13, 0], [14, 14, 14]], ids=str)
@pytest.mark.parametrize("n_layers", [1, 3])
def test_what_nobody_reads_is_left_out_and_nothing_else_changes(kind, read_from, n_layers):
    model, rows = in_double(make(kind, init_std=0.2, n_layers=n_layers)), [tokens(n, seed=n) for n in (3, 12, 7)]
    for x, mask in ((tokens(3, 14), None), padded(rows, 14)):
        real = np.ones(x.shape, bool) if mask is None else mask
        read = real & (np.arange(14) >= np.reshape(read_from, (-1, 1)))
        weights = np.random.default_rng(0).standard_normal((3, 14, 16))
        some, whole = model.hidden(x, attention_mask=mask, read_from=np.array(read_from)), model.hidden(x, attention_mask=mask)
        np.testing.assert_allclose(some.data, whole.data * read[..., None], rtol=1e-10, atol=1e-12)
        expected = gradients_of(model, ops.sum(whole * (weights * read[..., None])))
        for name, gradient in gradients_of(model, ops.sum(some * weights)).items():
            np.testing.assert_allclose(gradient, expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_dropout_of_a_padded_batch_drops_and_repeats(kind):
    rows = [tokens(n, seed=n) for n in (3, 12)]
    x, mask = padded(rows, 12)
    first, again, other = (make(kind, seed, dropout=0.3).hidden(x, attention_mask=mask).data for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    model = make(kind, dropout=0.3)
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
            last = lively(more[:, t : t + 1], cache=cache).data
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


def test_dropout_is_on_in_training_and_off_in_eval(kind):
    model = make(kind, dropout=0.5)
    x = tokens(1, 8)
    assert np.abs(logits(model, x) - logits(model, x)).max() > 1e-3
    model.eval()
    np.testing.assert_array_equal(logits(model, x), logits(model, x))


# ---- what is built on it


@pytest.mark.parametrize("kind", MODELS)
def test_a_saved_model_is_the_same_to_the_bit(kind, tmp_path):
    model = make(kind).eval()
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert type(again) is type(model) and again.config == model.config
    np.testing.assert_array_equal(logits(again, tokens(2, 9)), logits(model, tokens(2, 9)))
    stored = safetensors.read_header(tmp_path / "model.safetensors").tensors
    assert sum(int(np.prod(info.shape)) for info in stored.values()) == model.num_parameters()


def test_operations_are_two_for_each_number_that_multiplies_and_grow_with_the_context(kind):
    model = make(kind)
    per_key = model.flops_per_token(context=4) - model.flops_per_token(context=3)
    assert model.flops_per_token() == model.flops_per_token(context=model.config.window or 16)
    shape = model.config
    assert per_key == 4 * shape.n_layers * shape.n_heads * shape.d_head
    products = (model.flops_per_token(context=4) - 4 * per_key) / 2
    assert 0 < model.num_parameters() - products < 0.2 * model.num_parameters(), (
        "all but norms, biases and what is only looked up"
    )


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_compiled_step_writes_what_the_model_itself_writes(lively, monkeypatch, temperature):
    prompts = [tokens(n, seed=n).tolist() for n in (3, 8, 1, 5, 2, 7, 4, 6)]

    def written():
        rng = np.random.default_rng(0)
        return generate(lively, prompts, max_new_tokens=7, temperature=temperature, rng=rng).tokens

    compiled = written()
    monkeypatch.setattr(compiled_step, "ENOUGH_STEPS", 99)
    assert written() == compiled


def test_beam_search_finds_nothing_less_likely_than_greedy(lively):
    prompt = [tokens(4).tolist()]
    scores = [sum(generate(lively, prompt, max_new_tokens=5, temperature=0, n_beams=n).log_probs[0]) for n in (1, 4)]
    assert scores[1] >= scores[0] - 1e-5


def test_adapters_begin_as_the_model_learn_and_merge(kind):
    model, x = make(kind), tokens(2, 9)
    before = logits(model.eval(), x[:, :-1])
    add_lora(model, rank=2, alpha=4.0, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(logits(model, x[:, :-1]), before)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        model.loss(x[:, :-1], x[:, 1:]).backward()
        optimizer.step()
    adapted = logits(model, x[:, :-1])
    assert np.abs(adapted - before).max() > 1e-2
    with lora_disabled(model):
        np.testing.assert_array_equal(logits(model, x[:, :-1]), before)
    np.testing.assert_allclose(logits(merge_lora(model), x[:, :-1]), adapted, atol=1e-5)


def test_int8_weights_write_and_stay_near(kind):
    model, x = make(kind, d_model=32).eval(), tokens(3, 9)
    exact = logits(model, x)
    quantize(model)
    assert 0 < np.abs(logits(model, x) - exact).max() < 0.05 * np.abs(exact).max()
    assert [len(row) for row in generate(model, x.tolist(), max_new_tokens=4, temperature=0).tokens] == [4, 4, 4]


def test_the_loss_is_the_cross_entropy_of_its_logits(kind):
    model, x, y = make(kind), tokens(3, 8), tokens(3, 8, seed=2)
    mask = np.random.default_rng(0).random((3, 8)) < 0.7
    expected = ops.cross_entropy(model(x), y, loss_mask=mask)
    assert model.loss(x, y, loss_mask=mask).item() == pytest.approx(expected.item(), rel=1e-5)

"""A compiled step says what the model says, row by row, and models that cannot be compiled go on as before."""

import numpy as np
import pytest

from tinyllm import Tensor, kernels, no_grad, ops
from tinyllm import compile as compiled
from tinyllm.autograd.modes import MODE
from tinyllm.compile import step as step_file
from tinyllm.decoding import context, generate
from tinyllm.models import GPT, GPTConfig, Llama, LlamaConfig
from tinyllm.nn import RotaryScaling, lay_out, lora, quantized, run_blocks


def make_gpt(*, dtype=np.float32, **changes):
    config = GPTConfig(vocab_size=300, block_size=64, n_layers=3, n_heads=4, d_model=36, init_std=0.2, **changes)
    model = GPT(config, rng=np.random.default_rng(0))
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(dtype)
    model.eval()
    return model


def prompts(n, *, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 300, rng.integers(1, 20)).tolist() for _ in range(n)]


@pytest.fixture
def steps(monkeypatch):
    """The compiled steps that were made."""
    made = []

    def noting(*args, **settings):
        made.append(compiled.compile_step(*args, **settings))
        return made[-1]

    monkeypatch.setattr(context, "compile_step", noting)
    return made


def uncompiled(monkeypatch, run):
    with monkeypatch.context() as patch:
        patch.setattr(context, "compile_step", lambda *args, **settings: None)
        return run()


@pytest.mark.parametrize("n_inner", [20, 211])
def test_a_feed_forward_layer_of_another_width_is_compiled_too(monkeypatch, steps, n_inner):
    model, texts = make_gpt(n_inner=n_inner), prompts(20)
    mine = generate(model, texts, max_new_tokens=10, temperature=0)
    assert [type(step) for step in steps] == [compiled.CompiledStep]
    plain = uncompiled(monkeypatch, lambda: generate(model, texts, max_new_tokens=10, temperature=0))
    assert mine.tokens == plain.tokens
    np.testing.assert_allclose(np.concatenate(mine.log_probs), np.concatenate(plain.log_probs), atol=1e-4, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("ragged", [True, False])
@pytest.mark.parametrize("dtype, atol", [(np.float32, 1e-4), (np.float64, 1e-11)])
def test_the_log_probs_of_a_compiled_step_are_the_models(monkeypatch, steps, bias, ragged, dtype, atol):
    model, texts = make_gpt(bias=bias, dtype=dtype), prompts(20) if ragged else np.random.default_rng(0).integers(0, 300, (20, 7))

    def run():
        return generate(model, texts, max_new_tokens=30, temperature=0)

    mine, plain = run(), uncompiled(monkeypatch, run)
    assert [type(step) for step in steps] == [compiled.CompiledStep]
    assert mine.tokens == plain.tokens
    np.testing.assert_allclose(mine.log_probs, plain.log_probs, atol=atol, rtol=0)


def test_rows_that_end_leave_the_others_as_they_were(monkeypatch, steps):
    model, texts = make_gpt(), prompts(24)

    def run():
        return generate(model, texts, max_new_tokens=40, rng=np.random.default_rng(3), stop_tokens=tuple(range(20)))

    mine, plain = run(), uncompiled(monkeypatch, run)
    assert len(steps) == 1 and len({len(tokens) for tokens in mine.tokens}) > 5
    assert (mine.tokens, mine.finish_reasons) == (plain.tokens, plain.finish_reasons)


def test_few_steps_are_not_worth_compiling_and_one_row_is(steps):
    model = make_gpt()
    for n_rows in (1, 9):
        for new, compiles in ((step_file.ENOUGH_STEPS, False), (step_file.ENOUGH_STEPS + 1, True)):
            generate(model, np.full((n_rows, 5), 7), max_new_tokens=new, temperature=0)
            assert (steps.pop() is not None) == compiles and not steps


def test_a_model_in_training_is_left_in_training_and_is_run_without_dropout(steps):
    model = make_gpt(dropout=0.5)
    wanted = generate(model, prompts(12), max_new_tokens=20, temperature=0)
    model.train()
    found = generate(model, prompts(12), max_new_tokens=20, temperature=0)
    assert found.tokens == wanted.tokens and model.training and MODE.recording and MODE.observers == ()
    assert len(steps) == 2 and None not in steps


def adapted():
    """A policy with adapters that have learned something."""
    model = lora.add_lora(make_gpt(), rank=2, alpha=4.0, rng=np.random.default_rng(0))
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            parameter.data[...] = np.random.default_rng(1).normal(0, 0.1, parameter.shape)
    return model


def llama(**changes):
    shape = {"vocab_size": 300, "block_size": 64, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "d_model": 32, "init_std": 0.2}
    return Llama(LlamaConfig(**{**shape, **changes}), rng=np.random.default_rng(0)).eval()


MODELS = {
    "int8": lambda: quantized.quantize(make_gpt()),
    "adapters": adapted,
    "llama": llama,
    "llama with a window, biases and normed queries": lambda: llama(window=7, qkv_bias=True, qk_norm=True, tied=True),
    "llama in int8": lambda: quantized.quantize(llama()),
    "llama with adapters": lambda: lora.add_lora(llama(), rank=2, alpha=4.0, rng=np.random.default_rng(0)),
    "llama with stretched angles": lambda: llama(rope_scaling=RotaryScaling("yarn", 4.0, 16)),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_is_compiled_to_what_it_is(monkeypatch, steps, name):
    model, texts = MODELS[name](), prompts(12)

    def run():
        return generate(model, texts, max_new_tokens=12, temperature=0)

    mine, plain = run(), uncompiled(monkeypatch, run)
    assert [type(step) for step in steps] == [compiled.CompiledStep]
    assert mine.tokens == plain.tokens and len({tuple(tokens) for tokens in mine.tokens}) > 5
    np.testing.assert_allclose(mine.log_probs, plain.log_probs, atol=1e-4, rtol=0)


@pytest.mark.skipif(kernels.backend() == "numpy", reason="BLAS sums a row in an order that depends on the other rows")
def test_a_row_s_bits_do_not_depend_on_the_rows_beside_it(steps):
    model, texts = llama(), prompts(14)
    whole = generate(model, texts, max_new_tokens=8, temperature=0)
    part = generate(model, [texts[i] for i in (5, *range(7))], max_new_tokens=8, temperature=0)
    assert len(steps) == 2 and None not in steps
    np.testing.assert_array_equal(part.log_probs[0][1:], whole.log_probs[5][1:])  # the first is the prompt's


def test_where_tokens_and_positions_are_the_same_the_next_step_is_compiled(steps):
    rows = context.Context(make_gpt(), 1, 20)
    for token, compiles in ((5, False), (1, False), (2, False), (9, True)):
        rows.read(np.array([[token]]))
        assert isinstance(rows.step, compiled.CompiledStep) == compiles


def test_a_model_with_more_weights_than_are_worth_a_copy_goes_on_uncompiled(monkeypatch, steps):
    monkeypatch.setattr(step_file, "MOST_WEIGHTS", 10_000)
    generate(make_gpt(), prompts(12), max_new_tokens=10, temperature=0)
    assert steps == [None]


def test_logits_that_are_not_finite_are_an_error_in_a_compiled_step_too(steps):
    model = make_gpt()
    rows = context.Context(model, 12, 30)
    rows.read(np.ones((12, 5), int))
    rows.read(np.ones((12, 1), int))
    model.tokens.weight.data[7] = np.nan  # the program's own copies are whole, the table that tokens are read from is not
    with pytest.raises(ValueError, match="logits for row 3 hold a NaN"):
        rows.read(np.array([[7 if row == 3 else 1] for row in range(12)]))


class PostNorm(GPT):
    """Made of ops that have instructions, in another order; the stream is read twice by one call."""

    def hidden(self, tokens, *, cache=None, attention_mask=None, read_from=None):
        layout = lay_out(tokens, block_size=self.config.block_size, attention_mask=attention_mask, cache=cache)
        x = run_blocks(
            [self.swapped(block) for block in self.blocks], self.embed(layout.tokens, layout.positions), layout, cache=cache
        )
        return layout.back(self.norm(x))

    def swapped(self, block):
        def call(x, layout, *, cache=None):
            x = block.norm1(block.attention(x, layout, residual=x, cache=cache))
            return ops.rms_norm(block.feedforward(x, residual=x), block.norm2.weight)

        return call


class Louder(GPT):
    """Does something after the last op that is no op of its own."""

    def hidden(self, tokens, **settings):
        return Tensor(super().hidden(tokens, **settings).data * 3)


class Squashed(GPT):
    """Ends in NumPy."""

    def logits(self, hidden):
        return Tensor(np.tanh(super().logits(hidden).data))


class Drifting(GPT):
    """Reads something that is made anew in each step, and looks like a weight."""

    def logits(self, hidden):
        self.n_steps += 1
        bias = Tensor(np.arange(300, dtype=np.float32) % self.n_steps)
        return ops.linear(hidden, self.tokens.weight, bias)


class Negated(GPT):
    """Uses an op that there is no instruction for."""

    def logits(self, hidden):
        return super().logits(-hidden)


class SeesPadding(GPT):
    """Forgets the mask."""

    def hidden(self, tokens, *, attention_mask=None, **settings):
        return super().hidden(tokens, **settings)


@pytest.mark.parametrize(
    "kind, compiles",
    [(PostNorm, True), (Louder, False), (Squashed, False), (Drifting, False), (Negated, False), (SeesPadding, True)],
)
def test_a_model_with_ways_of_its_own_keeps_them_however_many_rows_there_are(monkeypatch, steps, kind, compiles):
    plain = make_gpt()
    model = kind(plain.config, rng=np.random.default_rng(0))
    model.load_state_dict(plain.state_dict())
    model.eval()

    def run():
        model.n_steps = 0
        return generate(model, prompts(15), max_new_tokens=15, temperature=0)

    mine = run()
    assert [step is not None for step in steps] == [compiles]
    wanted = uncompiled(monkeypatch, run)
    assert mine.tokens == wanted.tokens and len({tuple(tokens) for tokens in mine.tokens}) > 5
    np.testing.assert_allclose(mine.log_probs, wanted.log_probs, atol=1e-4)


def test_a_step_beyond_the_room_is_refused_and_nothing_is_written():
    rows = context.Context(make_gpt(), 12, 14)
    rows.read(np.ones((12, 7), int))
    for _ in range(7):
        rows.read(np.ones((12, 1), int))
    before = rows.step.program.lengths.copy()
    with pytest.raises(ValueError, match="the longest of which has 14 tokens and room for 14; give one token a row"):
        rows.read(np.ones((12, 1), int))
    with pytest.raises(ValueError, match="size not equal to one"):
        rows.read(np.ones((12, 2), int))
    assert (rows.step.program.lengths == before).all()


def test_a_compiled_step_keeps_the_weights_it_was_made_with_and_only_one_cache():
    model = make_gpt()
    rows, same = (context.Context(model, 12, 30) for _ in range(2))
    for each in (rows, same):
        each.read(np.ones((12, 5), int))
        each.read(np.ones((12, 1), int))
    assert isinstance(rows.step, compiled.CompiledStep)  # the cache went with the step before
    wanted = same.read(np.full((12, 1), 2)).copy()
    with no_grad():
        for block in model.blocks:
            for parameter in block.parameters():
                parameter.data[...] = 0
    np.testing.assert_array_equal(rows.read(np.full((12, 1), 2)), wanted)

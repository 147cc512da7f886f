import dataclasses

import numpy as np
import pytest

from tinyllm import no_grad
from tinyllm.models import GPT, GPTConfig, extend_vocabulary, load_tokenizer_for
from tinyllm.nn import quantize
from tinyllm.tokenizers import CONTROL_TOKENS, ByteTokenizer

TOKENIZER = ByteTokenizer()
CONFIG = GPTConfig(vocab_size=257, block_size=16, n_layers=2, n_heads=2, d_model=8, init_std=0.3)


def make(**changes):
    return GPT(dataclasses.replace(CONFIG, **changes), rng=np.random.default_rng(0)).eval()


def logits_of(model, ids):
    with no_grad():
        return model(np.array([ids])).numpy()


def test_the_model_grows_with_its_tokenizer_and_the_old_ones_stay():
    model = make()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    grown, tokenizer = extend_vocabulary(model, TOKENIZER, CONTROL_TOKENS, rng=np.random.default_rng(1))
    assert tokenizer.vocab_size == grown.config.vocab_size == 257 + 6
    assert grown.tokens.weight.shape == (263, 8) and not grown.training
    assert model.config.vocab_size == TOKENIZER.vocab_size == 257
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
        if name != "tokens.weight":
            np.testing.assert_array_equal(grown.state_dict()[name], array)


def test_old_logits_stay_and_probabilities_hardly_change():
    model = make()
    grown, _ = extend_vocabulary(model, TOKENIZER, CONTROL_TOKENS, rng=np.random.default_rng(1))
    ids = list(b"a few words")
    old, new = logits_of(model, ids), logits_of(grown, ids)
    np.testing.assert_allclose(new[..., :257], old, rtol=0, atol=1e-6)
    share = np.exp(new[..., 257:]).sum(-1) / np.exp(new).sum(-1)
    assert (share < 1.5 * 6 / 263).all()  # Jensen: the mean row is no likelier than the average token


def test_new_rows_are_the_mean_and_a_little_noise_that_tells_them_apart():
    model = make()
    model.tokens.weight.data += np.arange(8, dtype=np.float32)  # the mean of trained tables is not 0 either
    grown, _ = extend_vocabulary(model, TOKENIZER, CONTROL_TOKENS, rng=np.random.default_rng(1))
    table, new = model.tokens.weight.numpy(), grown.tokens.weight.numpy()[257:]
    distance = np.abs(new - table.mean(axis=0))
    assert 0 < distance.min() and distance.max() < 0.5 * table.std()  # five standard deviations of the noise
    assert len({row.tobytes() for row in new}) == 6
    again, _ = extend_vocabulary(model, TOKENIZER, CONTROL_TOKENS, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again.tokens.weight.numpy()[257:], new)


def test_unused_rows_of_a_padded_table_are_filled_first():
    model = make(vocab_size=260)
    grown, tokenizer = extend_vocabulary(model, TOKENIZER, ["<|user|>"], rng=np.random.default_rng(1))
    assert tokenizer.vocab_size == 258 and grown.config.vocab_size == 260
    old, new = model.tokens.weight.numpy(), grown.tokens.weight.numpy()
    assert (old != new).any(axis=1).tolist() == [i == 257 for i in range(260)]
    grown, _ = extend_vocabulary(model, TOKENIZER, CONTROL_TOKENS, rng=np.random.default_rng(1))
    assert grown.config.vocab_size == 263


def test_nothing_new_changes_nothing():
    model = make()
    assert extend_vocabulary(model, TOKENIZER, ["<|endoftext|>"], rng=np.random.default_rng(1)) == (model, TOKENIZER)


@pytest.mark.parametrize("bias", [True, False])
def test_a_grown_checkpoint_is_saved_and_loaded(tmp_path, bias):
    make(bias=bias).save_pretrained(tmp_path / "old", tokenizer=TOKENIZER)
    loaded, own = GPT.from_pretrained(tmp_path / "old"), load_tokenizer_for(tmp_path / "old")
    grown, tokenizer = extend_vocabulary(loaded, own, CONTROL_TOKENS, rng=np.random.default_rng(1))
    grown.save_pretrained(tmp_path / "new", tokenizer=tokenizer)
    again = GPT.from_pretrained(tmp_path / "new")
    assert load_tokenizer_for(tmp_path / "new").special_tokens == tokenizer.special_tokens
    np.testing.assert_array_equal(logits_of(again, [260, 3]), logits_of(grown, [260, 3]))


def test_what_cannot_be_extended_is_refused():
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match="tokenizer: has 257 tokens, more than the model's vocab_size 200"):
        extend_vocabulary(make(vocab_size=200), TOKENIZER, CONTROL_TOKENS, rng=rng)
    with pytest.raises(ValueError, match="QuantizedEmbedding; extend the float model"):
        extend_vocabulary(quantize(make()), TOKENIZER, CONTROL_TOKENS, rng=rng)
    with pytest.raises(ValueError, match="ordinary token"):
        extend_vocabulary(make(), TOKENIZER, ["a"], rng=rng)

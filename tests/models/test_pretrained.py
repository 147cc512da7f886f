"""Model folders: an exact round trip, and every way a folder can be torn, edited or not belong together."""

import json

import numpy as np
import pytest

from tinyllm import no_grad, ops
from tinyllm.models import GPT, GPTConfig, Llama, LlamaConfig, gpt_layout, load_model, load_tokenizer_for
from tinyllm.optim import AdamW
from tinyllm.storage import FormatError, safetensors
from tinyllm.tokenizers import ByteTokenizer, CharacterTokenizer

CONFIG = {"vocab_size": 260, "block_size": 8, "n_layers": 2, "n_heads": 2, "d_model": 8, "dropout": 0.25}
TOKENS = np.arange(12).reshape(2, 6)


def make(bias=True, seed=0):
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(**CONFIG, bias=bias), rng=rng)
    for _, parameter in model.named_parameters():  # also norms and biases, which start equal everywhere
        parameter.data += rng.standard_normal(parameter.shape, dtype=np.float32)
    return model.eval()


def logits(model):
    with no_grad():
        return model(TOKENS).data


@pytest.fixture
def folder(tmp_path):
    make().save_pretrained(tmp_path, ByteTokenizer())
    return tmp_path


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def edit_tensors(folder, change):
    header = safetensors.read_header(folder / "model.safetensors")
    tensors = {name: array.copy() for name, array in safetensors.load(folder / "model.safetensors").items()}
    tensors = change(tensors) or tensors
    safetensors.save(folder / "model.safetensors", tensors, metadata=header.metadata)


# ---- round trip


@pytest.mark.parametrize("bias", [True, False])
def test_save_and_load_keeps_every_bit(tmp_path, bias):
    model = make(bias)
    model.save_pretrained(tmp_path)
    loaded = GPT.from_pretrained(tmp_path)
    assert loaded.config == model.config and not loaded.training
    assert list(loaded.state_dict()) == list(model.state_dict())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], array)
    np.testing.assert_allclose(logits(loaded), logits(model), atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_saving_what_was_loaded_gives_the_same_files(tmp_path, bias):
    make(bias).save_pretrained(tmp_path / "first", ByteTokenizer())
    GPT.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second", ByteTokenizer())
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_training_a_loaded_model_does_not_reach_the_file(folder):
    before = (folder / "model.safetensors").read_bytes()
    model = GPT.from_pretrained(folder).train()
    start = {name: array.copy() for name, array in model.state_dict().items()}
    optimizer = AdamW(model.parameters(), lr=0.1)
    ops.cross_entropy(model(TOKENS), TOKENS).backward()
    optimizer.step()
    assert all((model.state_dict()[name] != array).any() for name, array in start.items())
    assert (folder / "model.safetensors").read_bytes() == before


def test_saving_over_the_folder_a_model_was_loaded_from(folder):
    model = GPT.from_pretrained(folder)
    expected = logits(model)
    model.norm.bias.data += 1.0
    changed = logits(model)
    model.save_pretrained(folder, ByteTokenizer())
    np.testing.assert_array_equal(logits(model), changed)  # the old mapping is still whole
    np.testing.assert_array_equal(logits(GPT.from_pretrained(folder)), changed)
    assert np.abs(changed - expected).max() > 0.1


def test_a_model_without_bias_is_written_with_zeros_others_can_read(tmp_path):
    make(bias=False).save_pretrained(tmp_path)
    tensors = safetensors.load(tmp_path / "model.safetensors")
    biases = {name: array for name, array in tensors.items() if name.endswith(".bias")}
    assert len(biases) == 2 * 6 + 1 and not any(array.any() for array in biases.values())
    assert biases["transformer.h.0.attn.c_attn.bias"].shape == (24,) and biases["transformer.ln_f.bias"].shape == (8,)
    assert json.loads((tmp_path / "config.json").read_text())["bias"] is False


def test_linear_weights_are_stored_transposed_under_their_names(folder):
    tensors, model = safetensors.load(folder / "model.safetensors"), GPT.from_pretrained(folder)
    assert tensors["transformer.h.1.attn.c_attn.weight"].shape == (8, 24)
    np.testing.assert_array_equal(tensors["transformer.h.1.mlp.c_proj.weight"].T, model.blocks[1].feedforward.down.weight.data)
    np.testing.assert_array_equal(tensors["transformer.wte.weight"], model.tokens.weight.data)
    assert safetensors.read_header(folder / "model.safetensors").metadata["format"] == "pt"


# ---- what other writers do


def quirk_no_prefix(tensors):
    return {name.removeprefix("transformer."): array for name, array in tensors.items()}


def quirk_causal_masks(tensors):
    for i in range(2):
        tensors[f"transformer.h.{i}.attn.bias"] = np.tril(np.ones((1, 1, 8, 8), np.float32))
        tensors[f"transformer.h.{i}.attn.masked_bias"] = np.array(-1e4, np.float32)


def quirk_tied_head(tensors):
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].copy()


def quirk_only_the_head(tensors):
    tensors["lm_head.weight"] = tensors.pop("transformer.wte.weight")


@pytest.mark.parametrize("quirk", [quirk_no_prefix, quirk_causal_masks, quirk_tied_head, quirk_only_the_head])
def test_harmless_quirks_of_other_writers_are_read(folder, quirk):
    expected = logits(GPT.from_pretrained(folder))
    edit_tensors(folder, quirk)
    np.testing.assert_array_equal(logits(GPT.from_pretrained(folder)), expected)


def test_a_head_said_to_be_untied_is_read_if_it_is_the_table_all_the_same(folder):
    expected = logits(GPT.from_pretrained(folder))
    edit_config(folder, tie_word_embeddings=False)
    with pytest.raises(FormatError, match="lm_head.weight: expected an array .*tie_word_embeddings is false.*, found none"):
        GPT.from_pretrained(folder)
    edit_tensors(folder, quirk_tied_head)
    np.testing.assert_array_equal(logits(GPT.from_pretrained(folder)), expected)


def test_a_setting_that_gpt_does_not_know_is_said_unless_it_is_off(folder):
    edit_config(folder, rope_theta=1e4, summary_type="cls_index", auto_map=None, use_flash=False, embd_pdrop=0.1)
    with pytest.warns(UserWarning, match="config.json: rope_theta: not known to GPT and ignored"):
        GPT.from_pretrained(folder)


# ---- feed-forward layers of another width


@pytest.mark.parametrize("n_inner", [5, 24, 100])
def test_a_feed_forward_width_other_than_four_c_is_saved_loaded_and_counted(tmp_path, n_inner):
    config = GPTConfig(**CONFIG, n_inner=n_inner)
    model = GPT(config, rng=np.random.default_rng(0)).eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["n_inner"] == n_inner
    assert safetensors.load(tmp_path / "model.safetensors")["transformer.h.0.mlp.c_fc.weight"].shape == (8, n_inner)
    loaded = GPT.from_pretrained(tmp_path)
    assert loaded.config == config and loaded.config.d_feedforward == n_inner
    np.testing.assert_array_equal(logits(loaded), logits(model))


def test_a_config_that_gives_another_width_than_the_weights_is_refused(folder):
    edit_config(folder, n_inner=24)
    with pytest.raises(FormatError, match=r"c_fc.weight: expected shape \(8, 24\), as config.json says, found shape \(8, 32\)"):
        GPT.from_pretrained(folder)


# ---- weights in several files, and files that are something else


def shard(folder, *names):
    """Cut model.safetensors into as many files as there are names, with an index."""
    tensors = safetensors.load(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: names[i % len(names)] for i, name in enumerate(sorted(tensors))}
    for one in names:
        safetensors.save(folder / one, {name: tensors[name] for name, place in places.items() if place == one})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 7}, "weight_map": places}))
    return places


def test_weights_in_shards_are_read_with_their_tokenizer(folder):
    expected = logits(GPT.from_pretrained(folder))
    shard(folder, "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors")
    np.testing.assert_array_equal(logits(GPT.from_pretrained(folder)), expected)
    assert load_tokenizer_for(folder).vocab_size == 257


@pytest.mark.parametrize("name", ["model.safetensors", "model-1.safetensors", "config.json", "tokenizer.json"])
def test_a_git_lfs_pointer_is_called_one(folder, name):
    if name == "model-1.safetensors":
        shard(folder, "model-1.safetensors")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 548105171\n"
    (folder / name).write_text(pointer)
    with pytest.raises(FormatError, match=f"{name}: .* Git LFS pointer to the real file of 548,105,171 bytes; .*`git lfs pull`"):
        GPT.from_pretrained(folder), load_tokenizer_for(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5"])
def test_a_folder_with_weights_in_another_format_says_so(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(FileNotFoundError, match=f"holds its weights as {name}, .*which writes model.safetensors"):
        GPT.from_pretrained(folder)


def test_half_precision_is_widened(folder):
    expected = logits(GPT.from_pretrained(folder))
    edit_tensors(folder, lambda tensors: {name: array.astype(np.float16) for name, array in tensors.items()})
    model = GPT.from_pretrained(folder)
    assert model.tokens.weight.dtype == np.float32
    np.testing.assert_allclose(logits(model), expected, atol=0.1)


def test_a_config_of_theirs_with_more_keys_is_read(folder):
    edit_config(folder, bias=..., n_inner=None, n_ctx=8, initializer_range=0.02, torch_dtype="float32", task_specific_params={})
    assert GPT.from_pretrained(folder).config.bias


# ---- what is refused


def without(name):
    return lambda tensors: {n: array for n, array in tensors.items() if n != name}


def with_array(name, array):
    return lambda tensors: {**tensors, name: np.asarray(array, np.float32)}


@pytest.mark.parametrize(
    "change, text",
    [
        (without("transformer.h.1.mlp.c_fc.bias"), "transformer.h.1.mlp.c_fc.bias: expected an array of that name, found none"),
        (without("transformer.wte.weight"), "wte.weight: expected shape .260, 8., as config.json says, found no such array"),
        (with_array("transformer.h.0.attn.c_attn.weight", np.ones((24, 8))), "blocks.0.attention.qkv.weight has shape"),
        (with_array("transformer.h.0.ln_1.weight", np.ones(4)), "blocks.0.norm1.weight has shape"),
        (with_array("transformer.h.2.ln_1.weight", np.ones(8)), "transformer.h.2.ln_1.weight: expected no such array"),
        (with_array("lm_head.weight", np.ones((260, 8))), "lm_head.weight: expected the token table again, .*an untied model"),
        (with_array("wte.weight", np.ones((260, 8))), "transformer.wte.weight: expected each array once, found .*wte.weight too"),
        (with_array("classifier.bias", np.ones(2)), "classifier.bias: expected no such array"),
        (lambda tensors: {n: a.astype(np.float64) for n, a in tensors.items()}, "floating point, found float64"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(folder, change, text):
    edit_tensors(folder, change)
    with pytest.raises(FormatError, match=f"model.safetensors: .*{text}"):
        GPT.from_pretrained(folder)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"model_type": "llama"}, "model_type: expected 'gpt2', found 'llama'"),
        ({"n_layer": ...}, "n_layer: expected a whole number of at least 1, found None"),
        ({"n_embd": "8"}, "n_embd: expected a whole number"),
        ({"n_head": True}, "n_head: expected a whole number"),
        ({"n_head": 3}, "n_head: expected a divisor of n_embd 8, found 3"),
        ({"activation_function": "relu"}, "activation_function: expected 'gelu_new'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: expected False"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings: expected true or false, found 1"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: expected None"),
        ({"vocab_size": "260"}, "vocab_size: expected a whole number of at least 1, found '260'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"),
        ({"resid_pdrop": 1.5}, "resid_pdrop: expected a probability below 1, found 1.5"),
        ({"bias": "no"}, "bias: expected true or false, found 'no'"),
        ({"n_inner": "7"}, "n_inner: expected a whole number of at least 1, found '7'"),
        ({"n_inner": 0}, "n_inner: expected a whole number"),
    ],
)
def test_a_config_of_another_kind_is_refused(folder, changes, text):
    edit_config(folder, **changes)
    with pytest.raises(FormatError, match=f"config.json: {text}"):
        GPT.from_pretrained(folder)


@pytest.mark.parametrize(
    "key, size", [("vocab_size", 10**15), ("n_positions", 10**15), ("n_layer", 10**9), ("n_embd", 10**12), ("n_inner", 10**12)]
)
def test_a_config_of_absurd_size_is_refused_before_anything_is_allocated(folder, key, size):
    edit_config(folder, **{key: size})
    with pytest.raises(FormatError, match="model.safetensors: .*as config.json says"):
        GPT.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_one_of_its_files_says_which(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"not a model folder: it has no {name}"):
        GPT.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_torn_file_is_refused(folder, name):
    whole = (folder / name).read_bytes()
    for length in (0, 1, 7, len(whole) // 2, len(whole) - 3):
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(FormatError, match=name):
            GPT.from_pretrained(folder)


def test_a_crash_before_the_last_file_leaves_no_model_folder(tmp_path, monkeypatch):
    from tinyllm.models import pretrained

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(pretrained, "write_file", fail)
    with pytest.raises(OSError, match="disk full"):
        make().save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "config.json").exists()
    with pytest.raises(FileNotFoundError, match="it has no config.json"):
        GPT.from_pretrained(tmp_path / "model")


# ---- the tokenizer


def test_the_tokenizer_comes_back(folder):
    assert load_tokenizer_for(folder).fingerprint() == ByteTokenizer().fingerprint()


def test_another_tokenizer_is_refused(folder):
    ByteTokenizer(special_tokens=["<|other|>"]).save(folder)
    with pytest.raises(FormatError, match=r"tokenizer.json: sha256: .*put the model's own tokenizer.json back"):
        load_tokenizer_for(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path):
    large = ByteTokenizer(special_tokens=[f"<{i}>" for i in range(5)])  # 261 tokens, the model has 260
    with pytest.raises(FormatError, match="expected at most 260 tokens, the model's vocab_size, found 261 tokens"):
        make().save_pretrained(tmp_path / "new", large)
    assert not (tmp_path / "new").exists()
    make().save_pretrained(tmp_path)  # no tokenizer, hence no fingerprint: the size is still checked
    large.save(tmp_path)
    with pytest.raises(FormatError, match="at most 260 tokens"):
        load_tokenizer_for(tmp_path)


def test_a_smaller_tokenizer_beside_weights_of_unknown_origin_is_accepted(tmp_path):
    make().save_pretrained(tmp_path)
    CharacterTokenizer.train(["abc"]).save(tmp_path)
    assert load_tokenizer_for(tmp_path).vocab_size < 260


@pytest.mark.parametrize("size", ["260", None, 0, 2.5, True, [260]])
def test_a_vocabulary_size_that_is_no_number_is_a_format_error_for_the_tokenizer_too(folder, size):
    edit_config(folder, vocab_size=size)
    with pytest.raises(FormatError, match="config.json: vocab_size: expected a whole number of at least 1, found"):
        load_tokenizer_for(folder)


# ---- names


def test_our_names_and_theirs_are_one_to_one():
    state = make().state_dict()
    tensors = gpt_layout.to_tensors(state)
    assert len(tensors) == len(state)
    back = gpt_layout.from_tensors(
        gpt_layout.one_table(tensors, tied=True, file="model.safetensors"), list(state), file="model.safetensors"
    )
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array)
        assert np.shares_memory(back[name], array)


# ---- other dtypes, several files


def a_llama():
    config = LlamaConfig(vocab_size=300, block_size=8, n_layers=2, n_heads=2, d_model=16)
    return Llama(config, rng=np.random.default_rng(0)).eval()


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("bfloat16", 8)])
@pytest.mark.parametrize("max_shard_bytes", [None, 4000])
def test_weights_in_half_the_bits_are_the_nearest_there_are(tmp_path, dtype, digits, max_shard_bytes):
    model = a_llama()
    model.save_pretrained(tmp_path, dtype=dtype, max_shard_bytes=max_shard_bytes)
    again, n_bytes = load_model(tmp_path), sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    assert n_bytes < 2.5 * model.num_parameters()
    for name, array in model.state_dict().items():
        found = again.state_dict()[name]
        np.testing.assert_allclose(found, array, rtol=2.0**-digits, atol=1e-7)
        assert found.dtype == np.float32 and ("norm" in name or (found != array).any())
    again.save_pretrained(tmp_path / "again", dtype=dtype)  # what was rounded is kept as it is
    for name, array in again.state_dict().items():
        np.testing.assert_array_equal(load_model(tmp_path / "again").state_dict()[name], array)


def test_bfloat16_rounds_to_even():
    from tinyllm.storage.safetensors import to_bfloat16

    bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0xBF80FFFF, 0x7F800000], np.uint32)
    assert [hex(b) for b in to_bfloat16(bits.view(np.float32))] == ["0x3f80", "0x3f80", "0x3f82", "0x3f81", "0xbf81", "0x7f80"]
    assert to_bfloat16(np.array([np.nan], np.float32))[0] == 0x7FC0


def test_shards_are_read_again_and_an_older_single_file_goes(tmp_path):
    model, tokenizer = a_llama(), ByteTokenizer()
    model.save_pretrained(tmp_path, tokenizer)
    model.tokens.weight.data[0] += 1
    model.save_pretrained(tmp_path, tokenizer, max_shard_bytes=5000)
    assert not (tmp_path / "model.safetensors").exists() and len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 3
    again = load_model(tmp_path)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)
    assert load_tokenizer_for(tmp_path).vocab_size == tokenizer.vocab_size
    model.save_pretrained(tmp_path, tokenizer, max_shard_bytes=50_000)  # fewer: those of before go
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) == 2
    model.save_pretrained(tmp_path, tokenizer)
    assert {file.name for file in tmp_path.glob("model*")} == {"model.safetensors"}
    np.testing.assert_array_equal(load_model(tmp_path).tokens.weight.data, model.tokens.weight.data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float8"}, "dtype is 'float8'; expected one of float32, float16, bfloat16"),
        ({"max_shard_bytes": 0}, "max_shard_bytes is 0; expected at least 1"),
        ({"dtype": "float16"}, "tokens.weight holds 1e.06, and float16 ends at 65,504; choose bfloat16"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_anything_is(tmp_path, settings, message):
    model = a_llama()
    model.tokens.weight.data[3, 1] = 1e6
    with pytest.raises(ValueError, match=message):
        model.save_pretrained(tmp_path / "model", **settings)
    assert not (tmp_path / "model").exists()

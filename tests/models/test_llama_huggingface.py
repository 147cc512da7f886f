"""Llamas, Mistrals and Qwens saved by transformers, read by us: the same logits, gradients and texts.

What is expected was computed in float64 (fixtures/make_llama_family.py).
"""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tinyllm import no_grad, ops
from tinyllm.decoding import beam_search, generate
from tinyllm.models import Llama, load_model
from tinyllm.models.llama import LlamaConfig
from tinyllm.nn import RotaryScaling
from tinyllm.storage import FormatError, safetensors
from tinyllm.storage.settings import from_json

FOLDERS = sorted((Path(__file__).parents[1] / "fixtures" / "llama_family").iterdir())
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
with_text = pytest.mark.parametrize(
    "folder", [f for f in FOLDERS if "greedy" in np.load(f / "expected.npz")], ids=lambda folder: folder.name
)
with_beams = pytest.mark.parametrize(
    "folder", [f for f in FOLDERS if "beam_tokens" in np.load(f / "expected.npz")], ids=lambda folder: folder.name
)


def expected(folder):
    return np.load(folder / "expected.npz")


def exactness(folder):
    """How near float64 values come: transformers makes the ramp of a YaRN that is not cut to whole pairs in float32."""
    return 1e-6 if folder.name == "llama_yarn_set" else 1e-9


def in_double(model):
    for _, parameter in model.named_parameters():
        parameter.data = parameter.data.astype(np.float64)
    return model


def test_every_family_is_there():
    kinds = {json.loads((folder / "config.json").read_text())["model_type"] for folder in FOLDERS}
    assert kinds == {"llama", "mistral", "qwen2", "qwen3"} and len(FOLDERS) == 14


@every_folder
def test_logits_are_those_of_transformers(folder):
    model, truth = load_model(folder), expected(folder)
    assert isinstance(model, Llama) and np.abs(truth["exact"]).max() > 3
    with no_grad():
        np.testing.assert_allclose(model(truth["tokens"]).data, truth["exact"], atol=1e-4, rtol=0)
        np.testing.assert_allclose(in_double(model)(truth["tokens"]).data, truth["exact"], atol=exactness(folder), rtol=0)


@every_folder
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_are_those_of_transformers(folder, side):
    model, truth = in_double(load_model(folder)), expected(folder)
    n, tokens = len(truth["padded"]), truth["tokens"].copy()
    mask = np.ones(tokens.shape, bool)
    padding, real = (slice(None, -n), slice(-n, None)) if side == "left" else (slice(n, None), slice(None, n))
    tokens[1, real], mask[1, padding] = tokens[1, :n].copy(), False
    with no_grad():
        logits = model(tokens, attention_mask=mask).data
    np.testing.assert_allclose(logits[1, real], truth["padded"], atol=exactness(folder), rtol=0)
    np.testing.assert_allclose(logits[0], truth["exact"][0], atol=exactness(folder), rtol=0)


@every_folder
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_those_of_transformers(folder, dtype):
    model, truth = load_model(folder), expected(folder)
    model = in_double(model) if dtype == "float64" else model
    tokens, tolerance = truth["tokens"], 1e-4 if dtype == "float32" else exactness(folder)
    ops.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).backward()
    grads = {model.layout.their_name(name): parameter.grad for name, parameter in model.named_parameters()}
    assert {f"gradient/{name}" for name in grads} == {name for name in truth.files if name.startswith("gradient/")}
    for name, gradient in grads.items():
        norm, total, *picks = truth[f"gradient/{name}"]
        flat = gradient.ravel()
        assert np.linalg.norm(flat) == pytest.approx(norm, rel=tolerance), name
        found = [flat.sum(), *(flat[i * (len(flat) - 1) // 2] for i in range(3))]
        np.testing.assert_allclose(found, [total, *picks], atol=tolerance * max(norm, 1) * 10, rtol=0, err_msg=name)


@with_text
def test_a_hundred_greedy_tokens_are_those_of_transformers(folder):
    text = generate(load_model(folder), [[5, 17, 40, 3, 22]], max_new_tokens=100, temperature=0).tokens[0]
    assert text == expected(folder)["greedy"].tolist()


@with_beams
def test_beams_are_those_of_transformers(folder):
    truth = expected(folder)
    best = beam_search(in_double(load_model(folder)), [5, 17, 40], n_beams=4, max_new_tokens=12)[0]
    assert best.tokens == truth["beam_tokens"].tolist()
    assert best.score == pytest.approx(float(truth["beam_score"][0]), abs=1e-6)


@every_folder
def test_what_is_written_is_read_again_to_the_bit_and_keeps_its_kind(folder, tmp_path):
    model = load_model(folder)
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert again.config == model.config
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)
    first, second = (json.loads((f / "config.json").read_text()) for f in (folder, tmp_path))
    for key in ("model_type", "architectures", "hidden_size", "num_key_value_heads", "head_dim", "tie_word_embeddings"):
        assert first[key] == second[key]
    stored = {name for name in safetensors.read_header(tmp_path / "model.safetensors").tensors}
    assert ("lm_head.weight" in stored) == (not model.config.tied)


def changed(folder, tmp_path, **changes):
    """A copy of a folder whose config.json says something else (None: leaves it out)."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


FAMILY = {folder.name: folder for folder in FOLDERS}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama_grouped", {"hidden_act": "gelu"}, "hidden_act: expected 'silu'"),
        ("llama_grouped", {"mlp_bias": True}, "mlp_bias: expected False"),
        ("llama_grouped", {"num_key_value_heads": 3}, "num_key_value_heads: expected a divisor of 4 heads, found 3"),
        ("llama_grouped", {"head_dim": 5}, "head_dim: expected an even width"),
        ("llama_grouped", {"head_dim": 8}, "q_proj.weight: expected shape .32, 24., as config.json says"),
        ("llama_grouped", {"attention_bias": True}, "q_proj.bias: expected an array of that name, found none"),
        ("llama_biased", {"attention_bias": False}, "bias: expected no such array in this model"),
        ("llama_grouped", {"tie_word_embeddings": True}, "lm_head.weight: expected the token table again"),
        ("llama_tied", {"tie_word_embeddings": False}, "lm_head.weight: expected an array of that name"),
        ("llama_grouped", {"rms_norm_eps": -1}, "rms_norm_eps: expected a number above 0"),
        ("llama_linear", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type: expected one of default, linear"),
        ("llama_linear", {"rope_scaling": {"rope_type": "linear"}}, "rope_scaling: expected what a scaling of kind linear needs"),
        ("llama_linear", {"rope_scaling": {"type": "linear", "factor": "4"}}, "rope_scaling.factor: expected a number above 0"),
        (
            "llama_linear",
            {"rope_scaling": {"type": "linear", "factor": 4.0, "beta_fast": 3}},
            "beta_fast: expected no such setting",
        ),
        ("llama_linear", {"rope_scaling": "linear"}, "rope_scaling: expected an object or null"),
        ("llama_linear", {"rope_theta": 0}, "rope_theta: expected a number above 0"),
        ("mistral_window", {"sliding_window": 0}, "sliding_window: expected a whole number of at least 1"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window: expected False"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types: expected full_attention"),
        ("qwen3", {"hidden_size": None}, "hidden_size: expected a whole number"),
        ("qwen3", {"quantization_config": {"bits": 4}}, "quantization_config: expected None"),
    ],
)
def test_what_llama_is_not_is_refused_by_name(name, changes, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        load_model(changed(FAMILY[name], tmp_path, **changes))


def test_what_has_no_effect_is_passed_over_and_what_is_unknown_is_named(tmp_path):
    load_model(changed(FAMILY["qwen3"], tmp_path, attention_dropout=0.1, max_window_layers=2, use_cache=False))
    with pytest.warns(UserWarning, match="mixture_of_something: not known to Llama and ignored"):
        load_model(changed(FAMILY["qwen3"], tmp_path, mixture_of_something=3))


def test_a_missing_shard_is_named(tmp_path):
    folder = changed(FAMILY["llama_sharded"], tmp_path)
    next(folder.glob("*-00002-of-*")).unlink()
    with pytest.raises(FormatError, match="expected the file model-00002-of-.* beside it"):
        load_model(folder)


def test_a_shape_that_no_published_family_has_is_refused_when_saved(tmp_path):
    config = LlamaConfig(vocab_size=5, block_size=4, n_layers=1, n_heads=1, d_model=4, window=2, qk_norm=True)
    with pytest.raises(ValueError, match="no published family has window 2, qk_norm True"):
        Llama(config, rng=None).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_heads": 3}, "d_model 16 is not divisible by n_heads 3; change one, or give head_dim"),
        ({"n_kv_heads": 3}, "n_heads 4 is not divisible by n_kv_heads 3"),
        ({"head_dim": 5}, "heads of width 5 cannot be turned in pairs"),
        ({"window": 0}, "window must be a whole number of at least 1 or None, got 0"),
        ({"tied": 1}, "tied must be True or False, got 1"),
        ({"rope_base": -2.0}, "rope_base must be a number above 0"),
        ({"norm_eps": 0}, "norm_eps must be a number above 0"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LlamaConfig(**{"vocab_size": 5, "block_size": 4, "n_layers": 1, "n_heads": 4, "d_model": 16, **settings})


def test_said_or_not_it_is_the_same_shape():
    shape = {"n_heads": 4, "d_model": 96}
    assert LlamaConfig(**shape) == LlamaConfig(**shape, n_kv_heads=4, head_dim=24, n_inner=256)
    assert LlamaConfig().d_feedforward == 10944 and LlamaConfig(rope_scaling=RotaryScaling("linear", 2.0)) != LlamaConfig()


def test_a_run_s_settings_keep_how_angles_are_stretched(tmp_path):
    config = LlamaConfig(rope_scaling=RotaryScaling("llama3", 8.0, original_context=512, low_turns=2.0))
    kept = json.loads(json.dumps(dataclasses.asdict(config)))
    assert from_json(LlamaConfig, kept, where="config.json") == config
    for scaling, message in (
        (3, "got 3, expected a table or 'none'"),
        ({"kindd": "linear", "factor": 2.0}, "unknown key kindd (did you mean 'kind'?)"),
        ({"kind": "linear"}, "factor is missing; expected a number"),
        ({"kind": "ntk", "factor": 2.0}, "kind is 'ntk'; expected one of linear"),
        ({"kind": "linear", "factor": "2"}, "factor: got '2', expected a number"),
    ):
        with pytest.raises(ValueError, match=f"config.json: rope_scaling: {re.escape(message)}"):
            from_json(LlamaConfig, {"rope_scaling": scaling}, where="config.json")

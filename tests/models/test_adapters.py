"""Facts about adapters on disk: they come back to the bit, under PEFT's names, and what does not fit is named."""

import json

import numpy as np
import pytest

from tinyllm import no_grad
from tinyllm.models import GPT, GPTConfig, load_adapters, save_adapters
from tinyllm.nn import add_lora, lora_layers, merge_lora
from tinyllm.storage import FormatError, safetensors

TOKENS = np.arange(12).reshape(2, 6) % 11


def small_model():
    settings = {"vocab_size": 11, "block_size": 8, "n_layers": 2, "n_heads": 2, "d_model": 8, "init_std": 0.2}
    return GPT(GPTConfig(**settings), rng=np.random.default_rng(0))


def adapted(targets=("qkv", "down")):
    rng = np.random.default_rng(1)
    model = add_lora(small_model(), rank=2, alpha=8.0, targets=targets, rng=rng)
    for layer in lora_layers(model).values():
        layer.lora_b.assign(rng.standard_normal(layer.lora_b.shape))
    return model


def logits(model):
    with no_grad():
        return model(TOKENS).data


def test_adapters_come_back_to_the_bit(tmp_path):
    model = adapted()
    save_adapters(model, tmp_path)
    again = load_adapters(small_model(), tmp_path)
    assert logits(again).tobytes() == logits(model).tobytes() != logits(small_model()).tobytes()


def test_names_shapes_and_settings_are_those_of_peft(tmp_path):
    save_adapters(adapted(), tmp_path)
    tensors = safetensors.load(tmp_path / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * 2
    assert tensors["base_model.model.transformer.h.1.attn.c_attn.lora_A.weight"].shape == (2, 8)
    assert tensors["base_model.model.transformer.h.0.mlp.c_proj.lora_B.weight"].shape == (8, 2)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 8.0)
    assert config["target_modules"] == ["attn.c_attn", "mlp.c_proj"] and config["fan_in_fan_out"] is True


def test_a_short_name_means_every_layer_it_ends(tmp_path):
    save_adapters(adapted(targets=("out", "down")), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["c_proj"]}))
    assert len(lora_layers(load_adapters(small_model(), tmp_path))) == 4


def test_a_model_with_adapters_is_not_saved_as_if_it_had_none(tmp_path):
    model = adapted()
    with pytest.raises(ValueError, match=r"merge_lora\(model\) first"):
        model.save_pretrained(tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    expected = logits(model)
    merge_lora(model).save_pretrained(tmp_path / "whole")
    np.testing.assert_allclose(logits(GPT.from_pretrained(tmp_path / "whole")), expected, atol=1e-5)


OTHERS = [
    ({"use_rslora": True}, "use_rslora"),
    ({"r": "two"}, "r: expected a whole number of at least 1, found 'two'"),
    ({"r": 2.0}, "r: expected a whole number"),
    ({"r": True}, "r: expected a whole number"),
    ({"r": 10**9}, "expected shape"),
    ({"lora_alpha": "8"}, "lora_alpha: expected a number above 0, found '8'"),
    ({"lora_alpha": 0}, "lora_alpha: expected a number above 0"),
    ({"target_modules": ["lm_head"]}, "target_modules"),
    ({"target_modules": {"c_attn": 1}}, "target_modules"),
    ({"target_modules": [1]}, "target_modules"),
    ({"rank_pattern": {"c_attn": 4}}, "rank_pattern"),
    ({"r": 3}, "lora_A"),
    ({"target_modules": ["attn.c_attn"]}, "mlp.c_proj"),
    ({"target_modules": ["attn.c_attn", "mlp.c_proj", "mlp.c_fc"]}, "mlp.c_fc.lora_A.weight: expected an array"),
    ({"layer_replication": [[0, 1]]}, "layer_replication: expected no such setting, or one that is off"),
    ({"trainable_token_indices": [3]}, "trainable_token_indices"),
]


def write_config(folder, **change):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))


def write_array(folder, name, array):
    file = folder / "adapter_model.safetensors"
    tensors = {key: value.copy() for key, value in safetensors.load(file).items()}
    safetensors.save(file, {**tensors, "base_model.model.transformer.h.1.mlp.c_proj." + name: array})


def refused(folder, field):
    """Loading is refused, and the model is the one it was: its weights, what of it is trained, and the layers themselves."""
    model = small_model()
    before = [(name, weight, weight.requires_grad, weight.data.tobytes()) for name, weight in model.named_parameters()]
    with pytest.raises(FormatError, match=field):
        load_adapters(model, folder)
    after = [(name, weight, weight.requires_grad, weight.data.tobytes()) for name, weight in model.named_parameters()]
    assert [one[:1] + one[2:] for one in after] == [one[:1] + one[2:] for one in before]
    assert all(old[1] is new[1] for old, new in zip(before, after, strict=True)) and not lora_layers(model)


@pytest.mark.parametrize(("change", "field"), OTHERS)
def test_other_adapters_are_refused_by_name_and_nothing_is_changed(tmp_path, change, field):
    save_adapters(adapted(), tmp_path)
    write_config(tmp_path, **change)
    refused(tmp_path, field)


@pytest.mark.parametrize(
    ("name", "array", "field"),
    [
        ("lora_B.weight", np.zeros((8, 3), np.float32), r"expected shape \(8, 2\), found shape \(8, 3\)"),
        ("lora_B.weight", np.zeros((8, 2), np.int64), "expected finite floating-point numbers, found int64"),
        ("lora_B.weight", np.full((8, 2), np.nan, np.float32), "found a value that is not finite"),
        ("lora_C.weight", np.zeros((8, 2), np.float32), "found one for a layer that is not adapted"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_nothing_is_changed(tmp_path, name, array, field):
    save_adapters(adapted(), tmp_path)
    write_array(tmp_path, name, array)
    refused(tmp_path, field)


def test_a_torn_file_changes_nothing(tmp_path):
    save_adapters(adapted(), tmp_path)
    whole = (tmp_path / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(whole[:-1])
    refused(tmp_path, "file size")


def test_adapters_on_adapters_are_refused_and_the_first_ones_stay(tmp_path):
    save_adapters(adapted(), tmp_path)
    model = adapted()
    expected = logits(model)
    with pytest.raises(FormatError, match="adapter"):
        load_adapters(model, tmp_path)
    np.testing.assert_array_equal(logits(model), expected)


def test_settings_of_peft_that_are_off_or_only_name_things_are_read(tmp_path):
    save_adapters(adapted(), tmp_path)
    write_config(tmp_path, peft_version="0.18", eva_config=None, use_qalora=False, exclude_modules=None, revision="main")
    assert len(lora_layers(load_adapters(small_model(), tmp_path))) == 4


def test_a_model_without_adapters_has_none_to_save(tmp_path):
    with pytest.raises(ValueError, match="no LoRA adapters"):
        save_adapters(small_model(), tmp_path)

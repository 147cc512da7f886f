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


@pytest.mark.parametrize(
    ("change", "field"),
    [({"use_rslora": True}, "use_rslora"), ({"r": "two"}, "r"), ({"target_modules": ["lm_head"]}, "target_modules"),
     ({"rank_pattern": {"c_attn": 4}}, "rank_pattern"), ({"r": 3}, "lora_A"), ({"r": 99}, "adapter_config.json"),
     ({"target_modules": ["attn.c_attn"]}, "mlp.c_proj")],
)  # fmt: skip
def test_other_adapters_are_refused_by_name(tmp_path, change, field):
    save_adapters(adapted(), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(FormatError, match=field):
        load_adapters(small_model(), tmp_path)


def test_a_model_without_adapters_has_none_to_save(tmp_path):
    with pytest.raises(ValueError, match="no LoRA adapters"):
        save_adapters(small_model(), tmp_path)

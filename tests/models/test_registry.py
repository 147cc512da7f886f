import json

import numpy as np
import pytest

from tinyllm.models import GPT, MODELS, GPTConfig, load_model
from tinyllm.storage import FormatError


@pytest.fixture
def folder(tmp_path):
    GPT(GPTConfig(vocab_size=7, block_size=4, n_layers=1, n_heads=1, d_model=4), rng=np.random.default_rng(0)).save_pretrained(
        tmp_path
    )
    return tmp_path


def test_a_folder_s_config_says_which_class_reads_it(folder):
    model = load_model(folder)
    assert type(model) is MODELS["gpt2"] is GPT and not model.training and model.config.vocab_size == 7


@pytest.mark.parametrize("kind", ["bloom", 2, None, ["gpt2"]])
def test_a_kind_that_is_not_here_is_refused_with_those_that_are(folder, kind):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))
    with pytest.raises(FormatError, match=r"config.json: model_type: expected one of gpt2, llama, mistral, qwen2, qwen3, found"):
        load_model(folder)


def test_a_folder_without_config_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a model folder: it has no config.json"):
        load_model(tmp_path)

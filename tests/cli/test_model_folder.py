"""Where `tinyllm generate` and `tinyllm info` look for a model."""

import shutil

import pytest

from tinyllm.cli.model_folder import find_model


def test_a_run_its_model_and_a_checkpoint_are_all_found(trained):
    assert find_model(trained) == trained / "model"
    assert find_model(trained / "model") == trained / "model"
    checkpoint = trained / "checkpoints" / "step-00000004"
    assert find_model(checkpoint) == checkpoint / "model"


def test_a_run_that_goes_on_gives_its_newest_checkpoint(run_copy):
    shutil.rmtree(run_copy / "model")
    assert find_model(run_copy) == run_copy / "checkpoints" / "step-00000004" / "model"


def test_a_torn_checkpoint_is_skipped_with_a_warning(run_copy):
    shutil.rmtree(run_copy / "model")
    (run_copy / "checkpoints" / "step-00000004" / "optimizer.safetensors").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="step-00000004"):
        assert find_model(run_copy).parent.name == "step-00000002"


def test_what_is_no_model_is_refused_with_advice(tmp_path, run_copy):
    with pytest.raises(ValueError, match="holds no model"):
        find_model(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        find_model(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="~nobody-of-this-name/run does not exist"):
        find_model("~nobody-of-this-name/run")
    shutil.rmtree(run_copy / "model")
    for checkpoint in (run_copy / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    with pytest.raises(ValueError, match="has saved no checkpoint yet"):
        find_model(run_copy)


def test_the_error_says_which_model_is_meant(tmp_path):
    with pytest.raises(ValueError, match="^reward-model: .*nowhere does not exist"):
        find_model(tmp_path / "nowhere", name="reward-model")


def test_adapters_alone_and_weights_in_training_are_no_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds LoRA adapters only"):
        find_model(tmp_path)
    part = tmp_path / "checkpoints" / "step-00000001" / "model"
    part.mkdir(parents=True)
    (part / "model.safetensors").touch()
    (part.parent / "state.json").touch()
    with pytest.raises(ValueError, match="holds weights in training, which are no model by themselves; go on with that run"):
        find_model(part.parent)

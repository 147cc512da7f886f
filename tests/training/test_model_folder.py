"""Where everything that takes a model or a tokenizer looks for one."""

import shutil

import pytest
from tiny_run import run_in

from tinyllm.models import GPT
from tinyllm.tokenizers import CharacterTokenizer, load_tokenizer
from tinyllm.training import find_model, find_tokenizer


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run with its model/; do not write into it."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    model, _ = run_in(folder)
    model.save_pretrained(folder / "model", CharacterTokenizer("abcdefghijkl"))
    return folder


@pytest.fixture
def run_copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_a_run_its_model_and_a_checkpoint_are_all_found(finished):
    assert find_model(finished) == finished / "model"
    assert find_model(str(finished / "model")) == finished / "model"
    checkpoint = finished / "checkpoints" / "step-00000008"
    assert find_model(checkpoint) == checkpoint / "model"
    assert GPT.from_pretrained(find_model(checkpoint)).config.vocab_size == 13


def test_a_run_that_goes_on_gives_its_newest_checkpoint(run_copy):
    shutil.rmtree(run_copy / "model")
    assert find_model(run_copy) == run_copy / "checkpoints" / "step-00000008" / "model"


def test_a_torn_checkpoint_is_skipped_with_a_warning(run_copy):
    shutil.rmtree(run_copy / "model")
    (run_copy / "checkpoints" / "step-00000008" / "optimizer.safetensors").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="step-00000008"):
        assert find_model(run_copy).parent.name == "step-00000006"


def test_a_home_folder_is_found(run_copy, monkeypatch):
    monkeypatch.setenv("HOME", str(run_copy.parent))
    assert find_model("~/run") == run_copy / "model"
    assert find_tokenizer("~/run") == run_copy / "model"


def test_what_is_no_model_is_refused_with_advice(tmp_path, run_copy):
    with pytest.raises(ValueError, match="holds no model"):
        find_model(run_copy.parent / "run" / "checkpoints" / "step-00000008" / "optimizer.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no model"):
        find_model(tmp_path / "empty")
    with pytest.raises(ValueError, match="does not exist"):
        find_model(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="~nobody-of-this-name/run does not exist"):
        find_model("~nobody-of-this-name/run")
    shutil.rmtree(run_copy / "model")
    for checkpoint in (run_copy / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    with pytest.raises(ValueError, match="has saved no checkpoint yet"):
        find_model(run_copy)


def test_a_journey_that_was_stopped_names_the_stages_it_has(tmp_path, run_copy):
    stage = shutil.copytree(run_copy, tmp_path / "quickstart" / "base")
    with pytest.raises(ValueError, match=f"quickstart is not finished, but holds {stage}; give one of these"):
        find_model(tmp_path / "quickstart")
    assert find_model(stage) == stage / "model"


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


def test_a_tokenizer_is_found_in_its_file_its_folder_a_model_a_run_and_a_run_that_goes_on(run_copy):
    model = run_copy / "model"
    assert find_tokenizer(model / "tokenizer.json") == model / "tokenizer.json"
    assert find_tokenizer(model) == find_tokenizer(run_copy) == model
    assert load_tokenizer(find_tokenizer(run_copy)).vocab_size == 13
    model.rename(run_copy / "tokenizer")  # where a run keeps it from its first step on
    assert find_tokenizer(run_copy) == run_copy / "tokenizer"


def test_what_is_no_tokenizer_is_refused_with_advice(tmp_path):
    with pytest.raises(ValueError, match="^tokenizer: .*nowhere does not exist; give a folder with a tokenizer.json"):
        find_tokenizer(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no tokenizer.json, and is no run that has one"):
        find_tokenizer(tmp_path)


@pytest.mark.parametrize("find", [find_model, find_tokenizer])
def test_an_empty_name_is_not_the_folder_one_stands_in(find, run_copy, monkeypatch):
    monkeypatch.chdir(run_copy)
    assert find(".").exists()
    with pytest.raises(ValueError, match="the name is empty; give a folder, or '.' for the one you are in"):
        find("")

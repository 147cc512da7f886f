import json

import numpy as np
import pytest

from tinyllm.data import write_shard
from tinyllm.report.run_record import finite, read_run
from tinyllm.storage import safetensors

CONFIG = {
    "settings": {
        "training": {"max_steps": 100, "batch_size": 2, "gradient_accumulation": 5},
        "model": {"block_size": 10, "vocab_size": 300},
    },
    "environment": {"threads": "2"},
}


def write_run(folder, *, metrics, samples=(), config=CONFIG):
    """A run folder with these lines (dicts become JSON) and this config."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("metrics.jsonl", metrics), ("samples.jsonl", samples)):
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (folder / name).write_text(text)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class BytesTokenizer:
    vocab_size, eos_id = 257, 256

    def encode_arrays(self, texts):
        return [np.frombuffer(text, np.uint8) for text in texts]

    def fingerprint(self):
        return "00" * 32


def test_torn_and_foreign_lines_are_passed_over_and_counted(tmp_path):
    lines = [{"step": 2, "loss": 3.0}, "[1]", "nonsense", "", {"loss": 1.0}, {"step": "3"}, {"step": True, "loss": 2}]
    run = read_run(write_run(tmp_path, metrics=[*lines, {"step": 1, "loss": 4.0}, '{"step": 3, "lo']))
    assert run.series("loss") == ([1.0, 2.0], [4.0, 3.0])
    assert run.n_unreadable == 6


def test_values_that_are_no_finite_numbers_count_as_not_measured(tmp_path):
    lines = ['{"step": 1, "loss": 1e999}', '{"step": 2, "loss": "5"}', '{"step": 3, "loss": null}', {"step": 4, "loss": 2}]
    assert read_run(write_run(tmp_path, metrics=lines)).series("loss") == ([4.0], [2.0])
    odd = (None, True, "1", float("nan"), float("inf"), 10**400)
    assert [finite(value) for value in (*odd, 1, 2.5)] == [None] * 6 + [1.0, 2.5]


def test_settings_are_found_in_their_group_the_models_first(tmp_path):
    config = {**CONFIG, "settings": {"data": {"vocab_size": 2048}, **CONFIG["settings"]}}
    run = read_run(write_run(tmp_path, metrics=[{"step": 1, "loss": 2}], config=config))
    assert (run.setting("max_steps"), run.setting("vocab_size"), run.setting("nothing")) == (100, 300, None)


@pytest.mark.parametrize("config", ["", "[]", '{"settings": 3, "environment": []}', "[" * 10_000])
def test_a_broken_config_is_no_reason_to_fail(tmp_path, config):
    write_run(tmp_path, metrics=[{"step": 1, "loss": 2}])
    (tmp_path / "config.json").write_text(config)
    assert read_run(tmp_path).environment == {}


def test_sizes_are_read_from_the_files_of_the_run(tmp_path):
    write_run(tmp_path, metrics=[{"step": 1, "loss": 2}])
    (tmp_path / "data").mkdir()
    write_shard(tmp_path / "data" / "validation.bin", [b"abc", b"d"], tokenizer=BytesTokenizer())
    older, newer = (tmp_path / "checkpoints" / f"step-0000000{i}" for i in (1, 2))
    for folder, size in ((older, 5), (newer, 7)):
        (folder / "model").mkdir(parents=True)
        tensors = {"w": np.zeros((3, size), np.float32), "b": np.zeros(2, np.float32)}
        safetensors.save(folder / "model" / "model.safetensors", tensors)
    run = read_run(tmp_path)
    assert run.tokens_per_byte == 6 / 4 and run.n_parameters == 23
    (newer / "model" / "model.safetensors").write_bytes(b"torn")
    assert read_run(tmp_path).n_parameters == 17


@pytest.mark.parametrize(
    ("written", "rows"), [('[{"name": "told"}, 3]', [{"name": "told"}]), ("", []), ("3", []), ('{"a": 1}', [])]
)
def test_the_mixture_is_what_the_run_wrote_and_left_out_if_it_is_broken(tmp_path, written, rows):
    write_run(tmp_path, metrics=[{"step": 1, "loss": 2}])
    (tmp_path / "mixture.json").write_text(written)
    assert read_run(tmp_path).mixture == rows


@pytest.mark.parametrize("metrics", [[], ["torn"], [{"step": 1}], [{"step": 1, "loss": None}]])
def test_a_run_without_measurements_is_refused(tmp_path, metrics):
    with pytest.raises(ValueError, match="holds no measurements .*train for at least one step"):
        read_run(write_run(tmp_path, metrics=metrics))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="run folder .*nowhere' does not exist"):
        read_run(tmp_path / "nowhere")


def test_zeros_in_the_place_of_biases_that_a_model_does_not_have_are_not_counted(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n', encoding="utf-8")
    (tmp_path / "config.json").write_text('{"settings": {"model": {"bias": false}}}', encoding="utf-8")
    (tmp_path / "model").mkdir()
    tensors = {"h.weight": np.ones((3, 2), np.float32), "h.bias": np.zeros(3, np.float32)}
    safetensors.save(tmp_path / "model" / "model.safetensors", tensors)
    assert read_run(tmp_path).n_parameters == 6

"""Facts about checkpoints: the newest whole one is found, damage is named, and no crash while saving loses one."""

import dataclasses
import errno
import os
import shutil
import warnings

import numpy as np
import pytest
import tiny_run

from tinyllm.models import GPT
from tinyllm.storage import FormatError, manifest, safetensors, strict_json
from tinyllm.training import TrainState, checkpoint, latest_checkpoint, make_optimizer, save_checkpoint
from tinyllm.training.checkpoint import (
    checkpoint_name,
    list_checkpoints,
    prune_checkpoints,
    random_generators,
    read_state,
    split_arrays,
)
from tinyllm.training.resume import restore_checkpoint
from tinyllm.training.run_folder import RunFolder


def state_at(step, *, val_loss=None, micro_step=0):
    """A state to save."""
    model, source, _ = tiny_run.make()
    for weight in model.parameters() if micro_step else ():
        weight.grad = np.full_like(weight.data, 0.25)
    return TrainState(
        model, make_optimizer(model, tiny_run.CONFIG), source, step=step, val_loss=val_loss, micro_step=micro_step,
        source_state=source.state(),
    )  # fmt: skip


def names(folder):
    """The checkpoints' names, oldest first."""
    return [path.name for path in list_checkpoints(folder)]


def test_a_checkpoint_holds_a_model_that_from_pretrained_loads(tmp_path):
    state = state_at(3)
    path = save_checkpoint(tmp_path, state, settings={"training": {"seed": 1}})
    assert path == tmp_path / "step-00000003"
    loaded = GPT.from_pretrained(path / "model").state_dict()
    for name, array in state.model.state_dict().items():
        assert loaded[name].tobytes() == array.tobytes()
    assert read_state(path)["settings"] == {"training": {"seed": 1}}
    assert not (path / "gradients.safetensors").exists()


def test_a_model_without_its_own_layout_is_saved_by_name(tmp_path):
    state = state_at(1)
    state.model = state.model.blocks[0]
    path = save_checkpoint(tmp_path, state, settings={})
    assert safetensors.load(path / "model" / "model.safetensors").keys() == state.model.state_dict().keys()


def test_gradients_are_saved_only_between_micro_batches(tmp_path):
    path = save_checkpoint(tmp_path, state_at(3, micro_step=2), settings={})
    assert path.name == "step-00000003-micro-0002"
    gradients = safetensors.load(path / "gradients.safetensors")
    assert gradients and all((array == 0.25).all() for array in gradients.values())


def test_names_sort_by_time_whatever_their_length(tmp_path):
    moments = [(0, 1), (2, 0), (2, 9), (2, 10), (10, 0), (99_999_999, 0), (100_000_000, 0)]
    for moment in reversed(moments):
        (tmp_path / checkpoint_name(*moment)).mkdir()
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-00000001").write_text("a file")
    assert names(tmp_path) == [checkpoint_name(*moment) for moment in moments]


@pytest.mark.parametrize("damage", ["missing", "shorter", "edited", "no manifest"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning_that_names_it(tmp_path, damage):
    older = save_checkpoint(tmp_path, state_at(1), settings={})
    newer = save_checkpoint(tmp_path, state_at(2), settings={})
    assert latest_checkpoint(tmp_path) == newer
    file = newer / "optimizer.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if damage == "missing":
        file.unlink()
    elif damage == "no manifest":
        (newer / manifest.NAME).unlink()
    else:
        file.write_bytes(content if damage == "edited" else content[:-1])
    with pytest.warns(UserWarning, match="skipping checkpoint step-00000002, which is torn or was edited: .*expected"):
        assert latest_checkpoint(tmp_path) == older
    with pytest.warns(UserWarning, match="step-00000002"):
        assert save_checkpoint(tmp_path, state_at(2), settings={}) == newer  # its name can be used again
    assert latest_checkpoint(tmp_path) == newer


def test_no_checkpoint_is_none(tmp_path):
    assert latest_checkpoint(tmp_path) is None and latest_checkpoint(tmp_path / "absent") is None


def test_the_newest_and_the_best_are_kept(tmp_path):
    for step, val_loss in [(1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 1.5), (6, 1.6)]:
        save_checkpoint(tmp_path, state_at(step, val_loss=val_loss), settings={})
    removed = prune_checkpoints(tmp_path, keep_last=2)
    assert names(tmp_path) == [f"step-0000000{i}" for i in (2, 5, 6)]
    assert [path.name for path in removed] == [f"step-0000000{i}" for i in (1, 3, 4)]
    assert prune_checkpoints(tmp_path, keep_last=2) == []


def test_each_generator_of_a_model_is_saved_once():
    model, _, _ = tiny_run.make()
    assert random_generators(model) == {"dropout": model.dropout.rng}


def test_a_crash_at_any_call_while_saving_and_pruning_loses_no_checkpoint(memory_path, monkeypatch):
    """The machine stops at the k-th call of the filesystem, for every k."""

    class Crash(BaseException):
        pass

    state, k, outcomes = state_at(3), 0, set()
    base = memory_path / "base"
    for step in (1, 2):
        save_checkpoint(base, state_at(step), settings={})
    while True:
        k += 1
        folder = memory_path / str(k)
        shutil.copytree(base, folder)
        calls = []

        def crash_at(call, k=k, calls=calls):
            def counted(*arguments, **named):
                calls.append(arguments)
                if len(calls) >= k:
                    raise Crash
                return call(*arguments, **named)

            return counted

        with monkeypatch.context() as patch:
            for name in ("open", "write", "fsync", "close", "replace", "rename", "unlink", "mkdir", "rmdir"):
                patch.setattr(os, name, crash_at(getattr(os, name)))
            try:
                save_checkpoint(folder, state, settings={})
                prune_checkpoints(folder, keep_last=1)
            except Crash:
                pass
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing is torn: it is there or it is not
            latest = latest_checkpoint(folder)
        assert latest is not None and latest.name in ("step-00000002", "step-00000003")
        outcomes.add(latest.name)
        assert all(tiny_run.verifies(path) for path in list_checkpoints(folder))
        shutil.rmtree(folder)
        if len(calls) < k:
            break
    assert k > 40 and len(outcomes) == 2


def test_a_full_disk_stops_the_run_and_leaves_the_older_checkpoints(tmp_path, monkeypatch):
    write, full_from = os.write, [None]

    def write_until_full(descriptor, data):
        if full_from[0] is not None and len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", write_until_full)

    def on_record(record):
        full_from[0] = record.step if record.step >= 5 else None

    with pytest.raises(OSError, match="the disk is full") as caught:
        tiny_run.run_in(tmp_path / "run", on_record=on_record)
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path / "run" / "checkpoints")[-1] == "step-00000004"
    assert latest_checkpoint(tmp_path / "run" / "checkpoints").name == "step-00000004"
    assert not list((tmp_path / "run").rglob(".tmp-*"))
    full_from[0] = None
    monkeypatch.undo()
    tiny_run.run_in(tmp_path / "run", resume=True)
    tiny_run.run_in(tmp_path / "whole")
    assert tiny_run.final_bytes(tmp_path / "run") == tiny_run.final_bytes(tmp_path / "whole")


def test_a_damaged_checkpoint_never_takes_the_place_of_a_whole_one(tmp_path):
    config = dataclasses.replace(tiny_run.CONFIG, keep_last=3, eval_interval=0)
    whole = tmp_path / "whole"
    tiny_run.run_in(whole, config=config)
    shutil.copytree(whole, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    assert names(folder) == [checkpoint_name(step, 0) for step in (4, 6, 8)]
    for name in names(folder)[1:]:
        (folder / name / "state.json").unlink()

    class Crash(BaseException):
        pass

    def crash_after_six(record):
        if record.step == 7:
            raise Crash

    with pytest.warns(UserWarning, match="step-0000000[68]"), pytest.raises(Crash):
        config = dataclasses.replace(config, keep_last=1)
        tiny_run.run_in(tmp_path / "run", resume=True, config=config, on_record=crash_after_six)
    assert names(folder) == ["step-00000006"] and tiny_run.verifies(folder / "step-00000006")
    assert sorted(p.name for p in folder.glob("damaged-*")) == ["damaged-step-00000006", "damaged-step-00000008"]
    tiny_run.run_in(tmp_path / "run", resume=True, config=config)
    assert tiny_run.final_bytes(tmp_path / "run") == tiny_run.final_bytes(whole)


def test_a_run_keeps_its_last_checkpoints_and_its_best(tmp_path):
    tiny_run.run_in(tmp_path, config=dataclasses.replace(tiny_run.CONFIG, keep_last=1, eval_interval=2))
    losses = {path.name: read_state(path)["val_loss"] for path in list_checkpoints(tmp_path / "checkpoints")}
    assert "step-00000008" in losses and len(losses) <= 2
    records = tiny_run.run_in(tmp_path / "again", config=dataclasses.replace(tiny_run.CONFIG, eval_interval=2))[1]
    assert min(losses.values()) == min(r.val_loss for r in records if hasattr(r, "val_loss") and r.step)


def test_a_state_that_is_not_that_of_its_folder_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, state_at(3), settings={})
    other = path.rename(tmp_path / "step-00000004")
    with pytest.raises(FormatError, match="step: expected that of the folder's name, step-00000004, found step 3"):
        read_state(other)


class Answers:
    """A source whose state holds arrays."""

    def __init__(self, n=3):
        self.parts = {
            "tokens": np.arange(n),
            "mask": np.arange(n) % 2 == 0,
            "n_prompt": 2,
            "more": {"log_probs": np.ones((n, 2), "f")},
        }

    def state(self):
        """Where it stands."""
        return {"position": 7, "experience": self.parts}

    def restore(self, state):
        """Back there."""
        self.restored = state


def test_arrays_in_a_source_s_state_go_into_a_file_of_their_own_and_come_back(tmp_path):
    state = state_at(1)
    state.source = source = Answers()
    path = save_checkpoint(tmp_path, state, settings={})
    assert set(safetensors.load(path / "source.safetensors")) == {
        "experience/tokens",
        "experience/mask",
        "experience/more/log_probs",
    }
    assert read_state(path)["source"]["experience"]["tokens"] is None
    restore_checkpoint(path, state, settings={}, tokenizer_sha256=None)
    plain, arrays = split_arrays(source.restored)
    assert plain == split_arrays(source.state())[0]
    for name, array in split_arrays(source.state())[1].items():
        assert arrays[name].dtype == array.dtype and np.array_equal(arrays[name], array)


def test_a_state_whose_arrays_have_no_place_is_a_format_error(tmp_path):
    state = state_at(1)
    state.source = Answers()
    path = save_checkpoint(tmp_path, state, settings={})
    safetensors.save(path / "source.safetensors", {"experience/position/x": np.ones(1)})
    with pytest.raises(FormatError, match="state.json: source: expected a state of Answers"):
        restore_checkpoint(path, state, settings={}, tokenizer_sha256=None)


def test_what_could_not_be_read_again_is_not_written_and_older_checkpoints_stay(tmp_path, monkeypatch):
    run = RunFolder(tmp_path, {}, None, resuming=False)
    (tmp_path / "checkpoints").mkdir()
    run.save(state_at(1), keep_last=1)
    monkeypatch.setattr(strict_json, "MAX_BYTES", 300)  # state.json takes about 1,500
    with pytest.raises(ValueError, match="takes .* bytes as JSON, expected at most 300"):
        run.save(state_at(2), keep_last=1)
    monkeypatch.undo()
    monkeypatch.setitem(checkpoint.STATE_SCHEMA, "step", str)  # any other reason why reading would refuse it
    with pytest.raises(FormatError, match="state.json: step: expected a string, found 2"):
        run.save(state_at(2), keep_last=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]

"""What a run is made of: noted with a sum of its content, filled in on resuming, refused by name when it is something else."""

import json
import shutil
from pathlib import Path

import pytest

from tinyllm.recipes.inputs import MODEL, Input, note, recall

CHATS = Path(__file__).parents[1] / "fixtures" / "chat"
FILES = Input("data", "FILE", "files", required=False)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def noted_of(out, *inputs, resume=True, **values):
    """What is noted of these inputs."""
    return note(inputs, {"model": None, "data": [], **values}, out, resume=resume)


@pytest.fixture
def begun(base, out, tmp_path):
    """A run's folder with nothing but its config.json."""
    chats = str(shutil.copy(CHATS / "alpaca.json", tmp_path / "chats.json"))
    noted = noted_of(out, MODEL, FILES, resume=False, model=str(base), data=[chats])
    out.mkdir()
    (out / "config.json").write_text(json.dumps({"settings": {"inputs": noted}, "tokenizer_sha256": None, "environment": {}}))
    return out, noted


def test_what_was_given_is_noted_with_what_it_holds(begun, base):
    _, noted = begun
    assert noted["model"] == str(base) and noted["data"][0].endswith("chats.json")
    assert len({len(noted["model_sha256"]), len(noted["data_sha256"])}) == 1
    nothing = noted_of(base, FILES, resume=False, model=str(base))
    assert nothing == {"data": [], "data_sha256": None}


def test_what_was_left_out_comes_from_the_run(begun):
    out, noted = begun
    words = recall((MODEL, FILES), {}, out, resume=True)
    assert words == {"model": noted["model"], "data": noted["data"]}
    assert noted_of(out, MODEL, FILES, **words) == noted


def test_the_same_content_at_another_place_is_the_same_input(begun, base, tmp_path):
    out, noted = begun
    moved, chats = shutil.copytree(base, tmp_path / "moved"), str(shutil.copy(CHATS / "alpaca.json", tmp_path / "again.json"))
    assert noted_of(out, MODEL, FILES, model=str(moved), data=[chats]) == noted


def test_other_content_is_refused_by_name(begun, byte_model, base):
    out, _ = begun
    with pytest.raises(ValueError, match=r"^MODEL: .*other is not that of the run in .*run, which began with .*base \(sha256 "):
        noted_of(out, MODEL, model=str(byte_model("other", d_model=4)))
    with pytest.raises(ValueError, match=r"^FILE: .*messages.jsonl is not that of the run"):
        noted_of(out, FILES, data=[str(CHATS / "messages.jsonl")])
    with pytest.raises(ValueError, match=r"^FILE: none is not that of the run"):
        noted_of(out, FILES)


def test_a_file_that_changed_since_is_refused(begun):
    out, noted = begun
    Path(noted["data"][0]).write_text("[]")
    with pytest.raises(ValueError, match=r"^FILE: .*chats.json has changed since the run in .* began with it .*; put back"):
        noted_of(out, FILES, data=noted["data"])


def test_an_edited_config_is_a_format_error(begun):
    out, _ = begun
    content = json.loads((out / "config.json").read_text())
    content["settings"]["inputs"]["model"] = 3
    (out / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="settings.inputs"):
        recall((MODEL,), {}, out, resume=True)

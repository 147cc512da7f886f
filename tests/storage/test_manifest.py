"""Facts about manifests: a folder verifies exactly when every listed file is whole."""

import hashlib
import json

import pytest

from tinyllm.storage import FormatError, manifest, write_folder


@pytest.fixture
def folder(tmp_path):
    with write_folder(tmp_path / "step-1") as temporary:
        (temporary / "model").mkdir()
        (temporary / "model" / "weights").write_bytes(bytes(1000))
        (temporary / "state.json").write_text("{}")
    return tmp_path / "step-1"


def test_a_written_folder_verifies_and_lists_sizes_and_sums(folder):
    manifest.verify(folder)
    assert manifest.read(folder) == {
        "model/weights": {"sha256": hashlib.sha256(bytes(1000)).hexdigest(), "size": 1000},
        "state.json": {"sha256": hashlib.sha256(b"{}").hexdigest(), "size": 2},
    }
    assert manifest.unlisted(folder) == []


def test_a_missing_a_shorter_and_an_edited_file_are_each_named(folder):
    (folder / "state.json").write_text("[]")
    with pytest.raises(FormatError, match="state.json: sha256: expected"):
        manifest.verify(folder)
    (folder / "state.json").write_text("")
    with pytest.raises(FormatError, match="state.json: size: expected 2 bytes, found 0 bytes"):
        manifest.verify(folder)
    (folder / "state.json").unlink()
    with pytest.raises(FormatError, match="state.json: file: expected to be there, found nothing"):
        manifest.verify(folder)


def test_every_single_bit_flip_is_noticed(folder):
    for position in range(0, 1000, 97):
        content = bytearray(1000)
        content[position] ^= 1 << position % 8
        (folder / "model" / "weights").write_bytes(content)
        with pytest.raises(FormatError):
            manifest.verify(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "c:\\windows", "", "a\0b"])
def test_names_that_leave_the_folder_are_refused(folder, name):
    entry = {"sha256": "", "size": 0}
    content = {"format": "tinyllm-manifest", "version": 1, "files": {name: entry}}
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match="names inside the folder"):
        manifest.verify(folder)


OTHER = '{"format":"other","version":1,"files":{}}'
FUTURE = '{"format":"tinyllm-manifest","version":2,"files":{}}'


@pytest.mark.parametrize("text", ["", "{}", "[]", OTHER, FUTURE])
def test_a_malformed_manifest_is_a_format_error(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(FormatError, match="manifest.json"):
        manifest.verify(folder)


def test_a_folder_without_manifest_is_not_whole(tmp_path):
    with pytest.raises(FormatError, match="the folder is not whole"):
        manifest.verify(tmp_path)
    with pytest.raises(FormatError, match="the folder is not whole"):
        manifest.verify(tmp_path / "absent")


def test_files_the_manifest_does_not_list_are_found(folder):
    (folder / "notes.txt").write_text("mine")
    manifest.verify(folder)
    assert manifest.unlisted(folder) == ["notes.txt"]

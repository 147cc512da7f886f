"""Where results go is looked at before the work."""

import os

import pytest

from tinyllm.storage.out_folder import is_free, refuse_unwritable


def test_a_folder_that_can_be_made_is_fine_and_is_not_made(tmp_path):
    refuse_unwritable(tmp_path)
    refuse_unwritable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_hidden_files_only_is_free(tmp_path):
    assert is_free(tmp_path / "new") and is_free(tmp_path)
    (tmp_path / ".gitkeep").touch()
    assert is_free(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not is_free(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match=f"{tmp_path / 'file'} is a file; choose another name"):
            refuse_unwritable(folder)


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path))  # root may do anything
    with pytest.raises(ValueError, match=f"no permission in {tmp_path}; choose another place"):
        refuse_unwritable(tmp_path / "new" / "run")

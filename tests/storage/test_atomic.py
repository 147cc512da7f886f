"""Facts about atomic writes: at every possible crash the reader finds the old content or the new, never a half."""

import errno
import os
import shutil
import subprocess
import sys

import pytest

from tinyllm.storage import atomic, manifest, remove_folder, remove_leftovers, write_file, write_folder

CALLS = ("open", "write", "fsync", "close", "replace", "rename", "unlink", "mkdir", "rmdir")


class Crash(BaseException):
    """The machine stops: not an Exception, so that nobody handles it."""


class Disk:
    """Stands between the module and the system: counts its calls, and stops the machine at the k-th.

    `fail` is raised by call number `at`; a crash also by every later call, since a dead process cleans nothing up.
    """

    def __init__(self, monkeypatch, *, at=None, fail=None, only=CALLS):
        self.at, self.fail, self.calls = at, fail, []
        for name in only:
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))
        if only is CALLS:
            monkeypatch.setattr(atomic, "_exchange", self.wrap("exchange", atomic._exchange))

    def wrap(self, name, call):
        def counted(*arguments, **named):
            self.calls.append((name, arguments))
            crashed = isinstance(self.fail, Crash) and self.at is not None and len(self.calls) >= self.at
            if crashed or len(self.calls) == self.at:
                raise self.fail
            return call(*arguments, **named)

        return counted


def content_of(path):
    """A file's bytes, or a folder's files as a dict, or None."""
    if path.is_dir():
        return {p.name: p.read_bytes() for p in path.iterdir() if p.name != manifest.NAME}
    return path.read_bytes() if path.exists() else None


def file_case(path):
    write_file(path, [b"new ", b"content"])


def folder_case(path):
    with write_folder(path, replace=True) as temporary:
        write_file(temporary / "a", b"new a")
        (temporary / "b").write_bytes(b"new b")


def set_up(case, path):
    """Writes the old content, returns (old, new)."""
    if case is file_case:
        write_file(path, b"old")
        return b"old", b"new content"
    with write_folder(path) as temporary:
        (temporary / "a").write_bytes(b"old a")
    return {"a": b"old a"}, {"a": b"new a", "b": b"new b"}


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("case", [file_case, folder_case])
def test_a_crash_at_any_call_leaves_the_old_or_the_new(case, fresh, tmp_path, monkeypatch):
    seen = set()
    for k in range(1, 200):
        folder = tmp_path / str(k)
        folder.mkdir()
        path = folder / "target"
        old, new = set_up(case, path)
        if fresh:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            old = None
        with monkeypatch.context() as patch:
            disk = Disk(patch, at=k, fail=Crash())
            try:
                case(path)
                finished = True
            except Crash:
                finished = False
        assert content_of(path) in (old, new), f"call {k}: {disk.calls[-1]}"
        if path.is_dir():
            manifest.verify(path)
        seen.add(content_of(path) == new)
        remove_leftovers(folder)
        assert [p.name for p in folder.iterdir()] in ([], ["target"])
        if finished:
            break
    assert finished and k > 5 and seen == {True, False}


@pytest.mark.parametrize("case", [file_case, folder_case])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_an_error_at_any_call_leaves_nothing_behind_and_names_the_file(case, code, tmp_path, monkeypatch):
    for k in range(1, 200):
        folder = tmp_path / str(k)
        folder.mkdir()
        path = folder / "target"
        old, new = set_up(case, path)
        with monkeypatch.context() as patch:
            disk = Disk(patch, at=k, fail=OSError(code, os.strerror(code)))
            try:
                case(path)
                break
            except OSError as error:
                if disk.calls[k - 1][0] in ("write", "fsync"):
                    assert str(folder) in str(error)
                if code == errno.ENOSPC:
                    assert "the disk is full" in str(error) and "bytes are free" in str(error)
        assert content_of(path) in (old, new)
        remove_leftovers(folder)  # only what could not be removed at the failing call itself
        assert [p.name for p in folder.iterdir()] == ["target"]
    assert k > 5


def test_a_full_disk_leaves_no_file_at_all(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        Disk(patch, at=1, fail=OSError(errno.ENOSPC, "No space left on device"), only=("write",))
        with pytest.raises(OSError, match="the disk is full .* no half-written file") as caught:
            write_file(tmp_path / "w", b"x" * 100)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_success(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        write_file(tmp_path / "w", b"x")
    assert [name for name, _ in disk.calls] == ["open", "write", "fsync", "close", "replace", "open", "fsync", "close"]
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        with write_folder(tmp_path / "f") as temporary:
            (temporary / "a").write_bytes(b"1")
    names = [name for name, _ in disk.calls]
    renamed = names.index("rename")
    opened = [os.path.basename(arguments[0]) for name, arguments in disk.calls[:renamed] if name == "open"]
    assert names[:renamed].count("fsync") == len(opened) == 4  # a, its folder, the manifest, the folder again
    assert opened[0] == "a" and opened[2] == manifest.NAME
    assert names[renamed + 1 :] == ["open", "fsync", "close"]


def test_a_write_that_takes_less_than_it_was_given_is_continued(tmp_path, monkeypatch):
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:3]))
    write_file(tmp_path / "w", [b"0123456789", b"", bytearray(b"abc")])
    assert (tmp_path / "w").read_bytes() == b"0123456789abc"


def test_an_error_while_making_the_content_leaves_the_old_file(tmp_path):
    write_file(tmp_path / "w", b"old")

    def chunks():
        yield b"new"
        raise MemoryError

    with pytest.raises(MemoryError):
        write_file(tmp_path / "w", chunks())
    with pytest.raises(KeyError), write_folder(tmp_path / "f") as temporary:
        (temporary / "a").write_bytes(b"1")
        raise KeyError("a fault of the caller")
    assert (tmp_path / "w").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_a_symbolic_link_keeps_pointing_at_the_file_it_names(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"


def test_an_existing_folder_is_refused_and_a_strangers_file_is_never_taken(tmp_path):
    with write_folder(tmp_path / "f") as temporary:
        (temporary / "a").write_bytes(b"1")
    with pytest.raises(FileExistsError, match="the folder exists already"), write_folder(tmp_path / "f"):
        pass
    (tmp_path / "f" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="it holds 'thesis.txt'"), write_folder(tmp_path / "f", replace=True):
        pass
    (tmp_path / "g").write_text("a file")
    with pytest.raises(FileExistsError), write_folder(tmp_path / "g", replace=True):
        pass
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "f", "g", "manifest.json", "thesis.txt"]


def test_replacing_a_folder_works_without_the_systems_swap(tmp_path, monkeypatch):
    old, new = set_up(folder_case, tmp_path / "f")
    monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    folder_case(tmp_path / "f")
    assert content_of(tmp_path / "f") == new
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (tmp_path / f".tmp-step-1-{int(dead.stdout)}-0123abcd").mkdir()
    (tmp_path / f".tmp-w-{int(dead.stdout)}-0123abcd").write_text("half")
    (tmp_path / f".tmp-w-{os.getppid()}-0123abcd").write_text("being written")
    (tmp_path / ".tmp-mine").write_text("not ours")
    (tmp_path / "step-2").mkdir()
    assert len(remove_leftovers(tmp_path)) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [".tmp-mine", f".tmp-w-{os.getppid()}-0123abcd", "step-2"]
    assert remove_leftovers(tmp_path / "absent") == []


def test_a_folder_disappears_whole(tmp_path, monkeypatch):
    for k in range(1, 50):
        path = tmp_path / f"{k}" / "f"
        set_up(folder_case, path)
        with monkeypatch.context() as patch:
            disk = Disk(patch, at=k, fail=Crash())
            try:
                remove_folder(path)
                break
            except Crash:
                pass
        if path.exists():
            manifest.verify(path)
        del disk
    assert not path.exists() and k > 3


def test_an_error_names_the_file_that_was_asked_for_and_no_temporary_one(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_file(tmp_path / "nowhere" / "a.txt", b"x")
    assert caught.value.filename == str(tmp_path / "nowhere" / "a.txt")

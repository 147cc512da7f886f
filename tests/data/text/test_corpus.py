import json
import os

import pytest

from tinyllm.data.text import corpus
from tinyllm.data.text.corpus import read_corpus
from tinyllm.storage import strict_json


def test_one_file_is_cut_into_documents_that_join_to_it(tmp_path):
    text = b"\n\n".join(b"paragraph %d of the story, with some words" % i for i in range(400))
    (tmp_path / "story.txt").write_bytes(text)
    (source,) = read_corpus(str(tmp_path / "story.txt"))
    assert source.name == "story" and len(source.documents) > 15
    assert b"".join(source.documents) == text


def test_a_folder_gives_each_text_file_as_a_document_in_sorted_order(tmp_path):
    folder = tmp_path / "texts"
    (folder / "inner").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name, content in {
        "b.txt": b"bee",
        "a.md": b"ay",
        "inner/c.py": b"sea",
        ".hidden": b"no",
        ".git/x": b"no",
        "empty.txt": b" \n",
        "image.png": b"\x89PNG\0\0",
    }.items():
        (folder / name).write_bytes(content)
    (source,) = read_corpus(str(folder))
    assert source.name == "texts" and source.documents == (b"ay", b"bee", b"sea")
    assert len(source.skipped) == 2 and "empty.txt is empty" in source.skipped[0] and "binary" in source.skipped[1]


def test_a_large_file_in_a_folder_is_cut(tmp_path):
    (tmp_path / "small.txt").write_bytes(b"line\n\n" * 5000)
    (tmp_path / "large.txt").write_bytes(b"line\n\n" * 50_000)
    (source,) = read_corpus(str(tmp_path))
    assert len(source.documents) == 1 + 300_000 // 8196 + 1


def test_a_pattern_reads_the_matching_files(tmp_path):
    for name in ("a.txt", "b.txt", "c.md"):
        (tmp_path / name).write_bytes(name.encode())
    (source,) = read_corpus(str(tmp_path / "*.txt"))
    assert source.documents == (b"a.txt", b"b.txt")


def test_a_file_whose_name_looks_like_a_pattern_is_read_as_a_file(tmp_path):
    (tmp_path / "notes [old].txt").write_bytes(b"hello")
    assert read_corpus(str(tmp_path / "notes [old].txt"))[0].documents == (b"hello",)


def test_json_lines_give_their_text(tmp_path):
    (tmp_path / "s.jsonl").write_bytes(b'{"text": "one\\ntwo"}\n\n{"text": "\\ud800", "id": 3}\n{"text": ""}\n')
    assert read_corpus(str(tmp_path / "s.jsonl"))[0].documents == (b"one\ntwo", b"?")


@pytest.mark.parametrize("line", [b"{", b"[1]", b'{"texts": "a"}', b'{"text": 3}', b"[" * 100_000])
def test_a_wrong_json_line_is_counted_with_its_place_and_the_others_are_read(tmp_path, line):
    (tmp_path / "s.jsonl").write_bytes(b'{"text": "fine"}\n' + line + b'\n{"text": "too"}')
    (source,) = read_corpus(str(tmp_path / "s.jsonl"))
    assert source.documents == (b"fine", b"too")
    assert "3 records, 1 skipped: 1 malformed (first: line 2" in source.notes[0]
    (tmp_path / "s.jsonl").write_bytes(b'{"texts": "fine"}\n' + line)
    with pytest.raises(ValueError, match='s.jsonl\' holds no text: line 1: expected an object with a string under "text"'):
        read_corpus(str(tmp_path / "s.jsonl"))


def test_keys_beside_the_text_are_said_if_they_are_more_than_where_it_is_from(tmp_path):
    (tmp_path / "s.NDJSON").write_bytes(b'\xef\xbb\xbf{"text": "a", "id": 1, "score": NaN}\r\n{"text": "b", "summary": "c"}\r\n')
    (source,) = read_corpus(str(tmp_path / "s.NDJSON"))
    assert source.documents == (b"a", b"b")
    assert "keys that were not used: 'score' of 1 (first: line 1), 'summary' of 1 (first: line 2)" in source.notes[0]


def test_a_json_list_of_texts_is_records_and_other_json_is_text(tmp_path):
    (tmp_path / "list.json").write_bytes(b'[\n{"text": "one"},\n{"text": "two"}\n]')
    assert read_corpus(str(tmp_path / "list.json"))[0].documents == (b"one", b"two")
    for content in (b'{\n"name": "x"\n}', b"[1, 2]", b'{"a": [', b'"text"'):
        (tmp_path / "other.json").write_bytes(content)
        assert read_corpus(str(tmp_path / "other.json"))[0].documents == (content,)


def test_a_json_list_that_is_too_large_to_be_read_is_not_taken_for_text(tmp_path, monkeypatch):
    (tmp_path / "list.json").write_bytes(b'[\n{"text": "one"},\n{"text": "two"}\n]')
    monkeypatch.setattr(strict_json, "MAX_BYTES", 20)
    with pytest.raises(ValueError, match="list.json' holds no text: file size: expected at most 20 bytes in one JSON list"):
        read_corpus(str(tmp_path / "list.json"))


def test_records_without_text_in_a_folder_are_passed_over(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"text")
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n')
    (source,) = read_corpus(str(tmp_path))
    assert source.documents == (b"text",) and "metrics.jsonl holds no text: line 1" in source.skipped[0]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbftext")
    assert read_corpus(str(tmp_path / "a.txt"))[0].documents == (b"text",)
    assert read_corpus(str(tmp_path))[0].documents == (b"text",)


STORIES = [b"Story %d.\n\n" % i + b"A paragraph of it.\n\n" * (200 if i % 10 == 0 else 5) for i in range(30)]


@pytest.mark.parametrize("mark", [b"<|endoftext|>\n", b"<|endoftext|>", b"<|endoftext|> \r\n"])
def test_a_text_is_cut_at_its_end_of_text_marks(tmp_path, mark):
    """Each story is one document, whatever blank lines it has, in a file, a folder and a record."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/stories.txt").write_bytes(mark.join([*STORIES, b""]))
    for place in ("in/stories.txt", "in"):
        (source,) = read_corpus(str(tmp_path / place))
        assert source.documents == tuple(STORIES) and source.n_marks == 30
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": mark.join(STORIES).decode()}))
    (source,) = read_corpus(str(tmp_path / "a.jsonl"))
    assert source.documents == tuple(STORIES) and source.n_marks == 29


def test_marks_of_another_tokenizer_can_be_named_and_long_stories_are_cut(tmp_path):
    long = b"A line of a long story.\n" * 4000  # 96 kB
    (tmp_path / "a.txt").write_bytes(b"</s>".join([*STORIES, long]))
    (source,) = read_corpus(str(tmp_path / "a.txt"), end_of_text=("<|endoftext|>", "</s>"))
    assert source.documents[:30] == tuple(STORIES) and b"".join(source.documents[30:]) == long and len(source.documents) > 40
    assert read_corpus(str(tmp_path / "a.txt"))[0].n_marks == 0


def test_one_long_text_with_a_mark_at_its_end_can_still_be_divided(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"A paragraph of a novel.\n\n" * 400 + b"<|endoftext|>")
    (source,) = read_corpus(str(tmp_path / "a.txt"))
    assert len(source.documents) > 15 and source.n_marks == 1
    (tmp_path / "b.txt").write_bytes(b"<|endoftext|>\n" * 3)
    with pytest.raises(ValueError, match="b.txt' holds nothing but end-of-text marks"):
        read_corpus(str(tmp_path / "b.txt"))


def test_bytes_that_are_not_utf8_are_kept(tmp_path):
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    assert read_corpus(str(tmp_path / "latin.txt"))[0].documents == (b"caf\xe9",)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("missing.txt", None, "data file '.*missing.txt' does not exist; give 'python'"),
        ("empty.txt", b"\n  ", "data file '.*empty.txt' is empty; a corpus needs text"),
        ("a.png", b"\x89PNG\0", "data file '.*a.png' is binary .*NUL"),
        ("utf16.txt", "text".encode("utf-16"), "convert it to UTF-8"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_corpus(str(tmp_path / name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not an ordinary file"):
        read_corpus(str(tmp_path / "pipe"))


def test_a_folder_or_pattern_without_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no text files; name a place"):
        read_corpus(str(tmp_path))
    (tmp_path / "x.bin").write_bytes(b"\0")
    with pytest.raises(ValueError, match=r"holds no text files \(1 passed over, first .*x.bin is binary"):
        read_corpus(str(tmp_path / "*"))
    with pytest.raises(ValueError, match="data names nothing to read"):
        read_corpus([])


def test_several_descriptions_give_sources_with_different_names(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text.txt").write_bytes(folder.encode())
    sources = read_corpus([str(tmp_path / "a" / "text.txt"), str(tmp_path / "b" / "text.txt")])
    assert [source.name for source in sources] == ["text", "text-2"]


def test_max_bytes_limits_each_source(tmp_path):
    (tmp_path / "story.txt").write_bytes(b"line of words\n\n" * 20_000)
    sources = read_corpus(["python:reference", str(tmp_path / "story.txt")], max_bytes=50_000)
    assert [source.name for source in sources] == ["reference", "story"]
    assert all(30_000 < source.n_bytes <= 50_000 for source in sources)


def test_a_url_is_read_through_the_cache(tmp_path, monkeypatch):
    (tmp_path / "0123-tale.txt").write_bytes(b"once upon a time")
    monkeypatch.setattr(corpus, "download", lambda url, *, folder, progress: tmp_path / "0123-tale.txt")
    (source,) = read_corpus("https://example.org/tale.txt")
    assert source.name == "tale" and source.documents == (b"once upon a time",)


def test_a_path_is_as_good_as_its_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    assert read_corpus(tmp_path / "a.txt") == read_corpus(str(tmp_path / "a.txt"))


def test_no_name_at_all_does_not_mean_the_folder_one_stands_in():
    for specs in ("", ["python", ""]):
        with pytest.raises(ValueError, match="data names nothing to read"):
            read_corpus(specs)


@pytest.mark.parametrize(
    ("spec", "fault"), [("ftp://host/a.txt", "url must begin with http"), ("~nobody-of-this-name/a.txt", "does not exist")]
)
def test_addresses_and_homes_that_do_not_exist_are_explained(spec, fault):
    with pytest.raises(ValueError, match=fault):
        read_corpus(spec)


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    def closed(folder, onerror):
        onerror(PermissionError(13, "Permission denied", str(tmp_path)))
        return iter(())

    monkeypatch.setattr(os, "walk", closed)
    with pytest.raises(ValueError, match="is a folder that cannot be looked into"):
        read_corpus(str(tmp_path))

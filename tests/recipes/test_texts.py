"""The stages between text and model, each alone."""

import json

import numpy as np
import pytest

from tinyllm.data import Source
from tinyllm.models import GPTConfig
from tinyllm.recipes import runs
from tinyllm.recipes.pretrain import fresh_model
from tinyllm.recipes.runs import refuse_used_folder, start_run
from tinyllm.recipes.texts import DataConfig, Texts, encode_texts, make_tokenizer, open_tokens, parse_data, read_texts
from tinyllm.tokenizers import ByteTokenizer, CharacterTokenizer, load_tokenizer


def write(path, text):
    path.write_text("".join(f"{text} number {i}\n\n" for i in range(40)))
    return path


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("python", (None, "python", None)),
        ("python:docstrings,source", (None, "python:docstrings,source", None)),
        ("python:source:2", (None, "python:source", 2.0)),
        ("books=my/books:0.5", ("books", "my/books", 0.5)),
        ("https://example.org:8000", (None, "https://example.org:8000", None)),
        ("https://example.org:8000/a.txt:3", (None, "https://example.org:8000/a.txt", 3.0)),
        ("a=https://example.org/?q=1", ("a", "https://example.org/?q=1", None)),
        ("my/folder/*.txt:1.", (None, "my/folder/*.txt", 1.0)),
    ],
)
def test_data_descriptions(spec, parts):
    assert parse_data(spec) == parts


def test_a_file_whose_name_looks_like_a_weight_is_a_file(tmp_path):
    path = write(tmp_path / "a=b:2", "x")
    assert parse_data(str(path)) == (None, str(path), None)


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ({"data": ()}, "data names nothing"),
        ({"data": ("x:0",)}, "has weight 0; expected a number above 0"),
        ({"tokenizer": "charcter"}, "did you mean character?"),
        ({"tokenizer": "/"}, "or a folder with one: / holds no tokenizer.json"),
        ({"vocab_size": 100}, "bpe needs at least 257"),
        ({"split": "tails"}, "split must be one of documents, tail, got 'tails'"),
        ({"validation_fraction": 1.0}, "validation_fraction must be a number above 0 and below 1, got 1.0"),
        ({"max_bytes": 0}, "at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(bad, fault):
    with pytest.raises(ValueError) as error:
        DataConfig(**bad)
    assert fault in str(error.value)


def test_sources_keep_names_and_weights_and_share_no_document(tmp_path):
    write(tmp_path / "a.txt", "one")
    write(tmp_path / "b.txt", "two")
    texts = read_texts(DataConfig(data=(f"first={tmp_path}/a.txt:3", f"{tmp_path}/b.txt:1")))
    assert texts.weights == {"first": 3.0, "b": 1.0}
    for name in texts.weights:
        assert texts.training[name] and texts.validation[name]
        assert not set(texts.training[name]) & set(texts.validation[name])
    sizes = (tmp_path / "a.txt").stat().st_size + (tmp_path / "b.txt").stat().st_size
    assert texts.n_bytes == sizes


def test_the_weight_of_a_place_with_several_sources_is_divided_by_size(monkeypatch):
    parts = {"python": {"reference": 30, "docstrings": 10}, "other": {"source": 5}}

    def pretend(where, **_):
        return [Source(name, tuple(b"%c" % i * size for i in range(65, 75))) for name, size in parts[where].items()]

    monkeypatch.setattr("tinyllm.recipes.texts.read_corpus", pretend)
    texts = read_texts(DataConfig(data=("py=python:2", "other:1")))
    assert texts.weights == {"py-reference": 1.5, "py-docstrings": 0.5, "source": 1.0}


def test_equal_names_are_told_apart_and_missing_weights_are_refused(tmp_path):
    path = write(tmp_path / "a.txt", "one")
    assert list(read_texts(DataConfig(data=(str(path), str(path)))).training) == ["a", "a-2"]
    with pytest.raises(ValueError, match="'a-2' has no weight, but others have"):
        read_texts(DataConfig(data=(f"{path}:1", str(path))))


def test_the_tail_can_be_held_out(tmp_path):
    path = write(tmp_path / "a.txt", "one")
    texts = read_texts(DataConfig(data=(str(path),), split="tail"))
    joined = b"".join(texts.training["a"] + texts.validation["a"])
    assert joined == path.read_bytes()


def test_an_end_of_text_mark_becomes_the_token_and_how_many_there_were_is_said(tmp_path):
    (tmp_path / "a.txt").write_text("<|endoftext|>\n".join(f"Story {i}.\n\nThe end.\n" for i in range(40)))
    texts = read_texts(DataConfig(data=(str(tmp_path / "a.txt"),), tokenizer="byte"))
    assert texts.notes == ("a: cut into documents at 39 end-of-text marks (<|endoftext|>)",)
    tokenizer = ByteTokenizer()
    encode_texts(texts, tokenizer, tmp_path / "data")
    ids = open_tokens(tmp_path / "data", tokenizer).mixture.sources[0].tokens.tolist()
    assert ids.count(tokenizer.eos_id) == len(texts.training["a"]) and ord("<") not in ids and ord("|") not in ids


def test_the_end_of_text_mark_of_a_loaded_tokenizer_counts_too(tmp_path):
    ByteTokenizer(special_tokens=("</s>",)).save(tmp_path / "t")
    (tmp_path / "a.txt").write_text("</s>".join(f"Story {i}." for i in range(40)))
    texts = read_texts(DataConfig(data=(str(tmp_path / "a.txt"),), tokenizer=str(tmp_path / "t")))
    assert texts.notes == ("a: cut into documents at 39 end-of-text marks (<|endoftext|> or </s>)",)


@pytest.mark.parametrize("split", ["documents", "tail"])
def test_documents_of_one_source_that_stand_in_another_are_on_one_side(tmp_path, split):
    records = [json.dumps({"text": f"Document number {i}."}) + "\n" for i in range(80)]
    (tmp_path / "a.jsonl").write_text("".join(records[:40]))
    (tmp_path / "b.jsonl").write_text("".join(records[::-1]))
    texts = read_texts(DataConfig(data=(f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"), split=split))
    training, validation = ({text for part in side.values() for text in part} for side in (texts.training, texts.validation))
    assert not training & validation and all(texts.validation.values())


def test_text_that_is_read_twice_but_cut_at_other_places_is_said(tmp_path):
    """A file by itself is cut into many documents; in a folder it is one."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        lines = [f"Line {i} of the text {name}, long enough to be told from others.\n\n" for i in range(200)]
        (tmp_path / f"in/{name}.txt").write_text("".join(lines))
    once = DataConfig(data=(f"{tmp_path}/in",), validation_fraction=0.4)
    assert read_texts(once).notes == ()
    both = read_texts(DataConfig(data=(f"{tmp_path}/in", f"{tmp_path}/in/a.txt"), validation_fraction=0.4))
    assert "of the held-out text stands in training documents too" in both.notes[0]


def test_a_source_of_one_document_is_refused_by_name(tmp_path):
    (tmp_path / "a.txt").write_text("too short")
    with pytest.raises(ValueError, match="source 'a': documents must hold at least 2"):
        read_texts(DataConfig(data=(str(tmp_path / "a.txt"),)))


def test_the_tokenizer_never_sees_the_held_out_text():
    texts = Texts({"a": (b"abc",)}, {"a": (b"xyz",)}, None)
    assert b"x" not in make_tokenizer(texts, DataConfig(tokenizer="character")).tokens
    assert make_tokenizer(texts, DataConfig(vocab_size=258)).vocab_size <= 258
    assert isinstance(make_tokenizer(texts, DataConfig(tokenizer="byte")), ByteTokenizer)


def test_a_tokenizer_is_loaded_from_its_folder(tmp_path):
    saved = CharacterTokenizer("abc")
    saved.save(tmp_path)
    texts = Texts({"a": (b"abc",)}, {"a": (b"xyz",)}, None)
    loaded = make_tokenizer(texts, DataConfig(tokenizer=str(tmp_path)))
    assert loaded.fingerprint() == saved.fingerprint()


def test_the_tokenizer_of_a_run_is_found_in_its_folder(trained):
    texts = Texts({"a": (b"abc",)}, {"a": (b"xyz",)}, None)
    own = load_tokenizer(trained / "model")
    assert make_tokenizer(texts, DataConfig(tokenizer=str(trained))).fingerprint() == own.fingerprint()


def test_token_files_give_back_documents_names_and_weights(tmp_path):
    tokenizer, seen = ByteTokenizer(), []
    texts = Texts({"a": (b"ab", b"c"), "b": (b"d",)}, {"a": (b"xy",), "b": (b"z",)}, {"a": 3.0, "b": 1.0})
    encode_texts(texts, tokenizer, tmp_path, progress=seen.append)
    tokens = open_tokens(tmp_path, tokenizer)
    assert [source.name for source in tokens.mixture.sources] == ["a", "b"]
    assert tokens.mixture.proportions.tolist() == [0.75, 0.25]
    assert tokenizer.decode_bytes(tokens.mixture.sources[0].tokens) == b"ab<|endoftext|>c<|endoftext|>"
    assert tokenizer.decode_bytes(tokens.validation) == b"xy<|endoftext|>z<|endoftext|>"
    assert seen[-1] == 5
    with pytest.raises(ValueError, match="tokenizer fingerprint"):
        open_tokens(tmp_path, CharacterTokenizer("abc"))


def test_a_token_file_with_one_id_exchanged_is_refused(tmp_path):
    texts = Texts({"a": (b"ab", b"c")}, {"a": (b"xy",)}, None)
    encode_texts(texts, ByteTokenizer(), tmp_path)
    content = bytearray((tmp_path / "validation.bin").read_bytes())
    content[128] = ord("z")  # the first id after the header, as likely a token as the one before
    (tmp_path / "validation.bin").write_bytes(content)
    with pytest.raises(ValueError, match="validation.bin: sha256 of the ids"):
        open_tokens(tmp_path, ByteTokenizer())


def test_a_model_that_cannot_be_trained_here_is_refused_before_it_is_made():
    config = GPTConfig(vocab_size=300, block_size=1024, n_layers=2, n_heads=1, d_model=64)
    with pytest.raises(ValueError, match="the largest batch_size that fits is"):
        fresh_model(config, seed=1, batch_size=10**7)
    model = fresh_model(GPTConfig(30, 4, n_layers=1, n_heads=1, d_model=4), seed=1, batch_size=1)
    again = fresh_model(GPTConfig(30, 4, n_layers=1, n_heads=1, d_model=4), seed=1, batch_size=1)
    assert np.array_equal(model.tokens.weight.data, again.tokens.weight.data)


def test_a_run_that_fails_before_its_first_step_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        with start_run(tmp_path / "run", settings={}, tokenizer=ByteTokenizer()):
            assert (tmp_path / "run" / "tokenizer" / "tokenizer.json").exists()
            raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_before_stays_when_a_run_fails(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyError):
        with start_run(tmp_path / "mine", settings={}, tokenizer=ByteTokenizer()):
            raise KeyError
    assert (tmp_path / "mine").is_dir() and not list((tmp_path / "mine").iterdir())


def test_a_run_that_another_process_has_just_begun_is_left_alone(tmp_path, monkeypatch):
    def begun_meanwhile(folder, **_):
        folder.mkdir()
        (folder / ".lock").touch()
        raise ValueError("in use by another trainer")

    monkeypatch.setattr(runs, "open_run", begun_meanwhile)
    with pytest.raises(ValueError, match="in use"):
        with start_run(tmp_path / "run", settings={}, tokenizer=ByteTokenizer()):
            pass
    assert (tmp_path / "run" / ".lock").exists()


def test_a_run_that_fails_later_keeps_everything(tmp_path):
    with pytest.raises(KeyError):
        with start_run(tmp_path / "run", settings={}, tokenizer=ByteTokenizer()):
            (tmp_path / "run" / "metrics.jsonl").write_text('{"event": "step", "step": 2}\n')
            raise KeyError
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("logged", ["", '{"event": "evaluation", "step": 0}\n'], ids=["nothing", "an evaluation"])
def test_a_start_that_fails_in_its_first_step_can_be_repeated(tmp_path, logged):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".gitkeep").touch()
    for tokenizer in (ByteTokenizer(), CharacterTokenizer("abc")):
        refuse_used_folder(folder, resume=False)
        with pytest.raises(KeyError):
            with start_run(folder, settings={"x": {}}, tokenizer=tokenizer):
                (folder / "metrics.jsonl").write_text(logged)
                raise KeyError
        assert [path.name for path in folder.iterdir()] == [".gitkeep"]


def test_what_a_killed_start_left_is_not_mixed_with_the_next(tmp_path):
    folder = tmp_path / "run"
    with start_run(folder, settings={}, tokenizer=ByteTokenizer()):
        pass  # killed here, say
    assert (folder / "config.json").exists()
    with start_run(folder, settings={}, tokenizer=CharacterTokenizer("abc")) as run:
        assert not run.resuming
    assert load_tokenizer(folder / "tokenizer").vocab_size == CharacterTokenizer("abc").vocab_size


def test_a_run_that_was_stopped_in_its_first_step_keeps_what_it_saved(tmp_path):
    with pytest.raises(SystemExit):
        with start_run(tmp_path / "run", settings={}, tokenizer=ByteTokenizer()):
            (tmp_path / "run" / "checkpoints" / "step-00000000-micro-0002").mkdir()
            raise SystemExit(143)
    assert (tmp_path / "run" / "checkpoints" / "step-00000000-micro-0002").is_dir()


def test_folders_in_use_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        refuse_used_folder(tmp_path / "file", resume=True)
    refuse_used_folder(tmp_path / "new", resume=False)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    refuse_used_folder(tmp_path / "run", resume=False)
    (tmp_path / "run" / "checkpoints" / "step-00000001").mkdir()
    refuse_used_folder(tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="already holds a run; add --resume"):
        refuse_used_folder(tmp_path / "run", resume=False)

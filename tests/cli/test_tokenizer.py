import io
import sys

import pytest

from tinyllm.cli import tokenizer as verb
from tinyllm.cli.parser import Parser, UsageError
from tinyllm.cli.tokenizer import add_parser
from tinyllm.tokenizers import BPETokenizer, ByteTokenizer, CharacterTokenizer, load_tokenizer
from tinyllm.tokenizers.cuts import mark_tokens, visible

TEXT = "low lower lowest newer newest\n\n" * 40


def run(*argv):
    """Parse a command line as `tinyllm` would and run its verb."""
    parser = Parser(prog="tinyllm")
    add_parser(parser.add_subparsers(dest="verb"))
    return verb.run(parser.parse_args(["tokenizer", *map(str, argv)]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    BPETokenizer.train([TEXT], vocab_size=266).save(folder)
    return folder


class BinaryStream(io.TextIOWrapper):
    def __init__(self, data=b""):
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")


def test_train_writes_a_tokenizer_and_says_so(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT)
    assert run("train", tmp_path / "text.txt", "--vocab-size", "270", "--pattern", "gpt2", "--out", tmp_path / "out") == 0
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer.vocab_size == 270 and tokenizer.pattern.name == "gpt2" and tokenizer.eos_id == 269
    shown = capsys.readouterr()
    assert f"270 tokens from {len(TEXT):,} bytes" in shown.out
    assert "counting words" in shown.err and "merging pairs" in shown.err


def test_train_says_when_the_text_had_no_more_pairs(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("ab ab")
    run("train", tmp_path / "text.txt", "--special", "<a>", "--special", "<b>", "--out", tmp_path)
    assert load_tokenizer(tmp_path).special_tokens == {"<a>": 257, "<b>": 258}
    assert "fewer than the 4,096 asked for: no other pair occurs 2 times" in capsys.readouterr().out


def test_ids_printed_by_encode_are_read_back_by_decode(folder, capsys, monkeypatch):
    assert run("encode", folder, " lowest é<|endoftext|>") == 0
    ids = capsys.readouterr().out
    assert list(map(int, ids.split())) == load_tokenizer(folder).encode(" lowest é<|endoftext|>")
    assert run("decode", folder, *ids.split()) == 0
    assert capsys.readouterr().out.rstrip("\n") == " lowest é<|endoftext|>"
    monkeypatch.setattr(sys, "stdin", io.StringIO(ids))
    assert run("decode", folder, "-") == 0
    assert capsys.readouterr().out.rstrip("\n") == " lowest é<|endoftext|>"


def test_encode_makes_special_tokens_only_on_request(folder, capsys):
    run("encode", folder, "--special", "a<|endoftext|>")
    ids = capsys.readouterr().out.split()
    assert ids[-1] == str(load_tokenizer(folder).eos_id) and len(ids) == 2


def test_pipes_carry_any_bytes_unchanged(folder, monkeypatch):
    data = bytes(range(256)) * 300  # larger than one read
    monkeypatch.setattr(sys, "stdin", BinaryStream(data))
    monkeypatch.setattr(sys, "stdout", BinaryStream())
    run("encode", folder, "-")
    sys.stdout.flush()
    ids = sys.stdout.buffer.getvalue()
    monkeypatch.setattr(sys, "stdin", BinaryStream(ids))
    monkeypatch.setattr(sys, "stdout", BinaryStream())
    run("decode", folder, "-")
    assert sys.stdout.buffer.getvalue() == data


def test_inspect_shows_vocabulary_cuts_and_merges(folder, capsys):
    assert run("inspect", folder, "lowest") == 0
    out = capsys.readouterr().out
    for expected in ("BPETokenizer", "266 tokens", "pattern      gpt4", "<|endoftext|> = ", "bytes per token", "merge by merge"):
        assert expected in out
    tokenizer = load_tokenizer(folder)
    assert mark_tokens(map(tokenizer.token_bytes, tokenizer.encode("lowest")), colour=False) in out
    assert "  [l][o][w][e][s][t]\n" in out


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharacterTokenizer.train(["ab"])])
def test_inspect_knows_the_other_tokenizers(tokenizer, tmp_path, capsys):
    tokenizer.save(tmp_path)
    run("inspect", tmp_path, "ab")
    out = capsys.readouterr().out
    assert type(tokenizer).__name__ in out and "[a][b]" in out


def test_tokens_cannot_steer_the_terminal():
    assert visible(b"\x1b[2J\n\xff") == r"\x1b[2J\n\xff"
    assert mark_tokens([b"a", b"\x07"], colour=True) == "\x1b[30;44ma\x1b[0m\x1b[30;42m\\x07\x1b[0m"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["decode", "{}", "1", "x"], "ID: got 'x', expected whole numbers"),
        (["decode", "{}", "9" * 5000], "ID: got '9999"),
        (["decode", "{}", "-1"], "ID: got '-1', expected whole numbers"),
        (["decode", "{}", "99999"], "vocabulary size 266"),
        (["train", "{}", "--vocab-size", "10", "--out", "{}/new"], "vocab_size: got 10"),
        (["train", "{}", "--pattern", "gpt9", "--out", "{}"], "pattern: got 'gpt9'"),
        (["train", "/no/such/file", "--out", "{}/new"], "does not exist"),
        (["train", "{}", "--out", "{}"], "holds a tokenizer.json, which a model may need"),
        (["train", "{}", "--out", "{}/tokenizer.json"], "tokenizer.json is a file; choose another name"),
        (["train", "{}", "--special", "", "--out", "{}/new"], "special_tokens: got ''"),
        (["train", "{}", "--min-frequency", "0", "--out", "{}/new"], "min_frequency: got 0"),
        (["encode", "{}"], "TEXT"),
        ([], "<verb>"),
    ],
)
def test_mistakes_are_explained(folder, argv, text):
    with pytest.raises(ValueError) as caught:
        run(*[word.format(folder) for word in argv])
    assert text in str(caught.value)


def test_a_missing_tokenizer_is_refused_with_advice(tmp_path):
    with pytest.raises(ValueError, match="nothing does not exist; give a folder with a tokenizer.json, a model's or a run's"):
        run("inspect", tmp_path / "nothing")


def test_the_folder_of_a_run_is_as_good_as_its_tokenizer(trained, capsys):
    run("encode", trained / "model", "The number")
    ids = capsys.readouterr().out
    run("encode", trained, "The number")
    assert capsys.readouterr().out == ids


@pytest.mark.parametrize("verb", ["train", "encode", "decode", "inspect"])
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        run(verb, "--help")
    assert caught.value.code == 0
    assert f"tinyllm tokenizer {verb}" in capsys.readouterr().out.split("examples:")[1]


def test_unknown_options_are_usage_errors():
    with pytest.raises(UsageError):
        run("train", "--vocabsize", "7")

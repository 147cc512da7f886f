import io
import sys

import pytest

from tinyllm.cli import tokenizer as verb
from tinyllm.cli.parser import Parser, UsageError
from tinyllm.cli.tokenizer import add_parser
from tinyllm.recipes.tokenizers import LANGUAGES, SCHEMES, file_parts
from tinyllm.tokenizers import BPETokenizer, ByteTokenizer, CharacterTokenizer, UnigramTokenizer, load_tokenizer
from tinyllm.tokenizers.cuts import mark_tokens, visible
from tinyllm.tokenizers.normalizers import UNCHANGED

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
    assert "counting words" in shown.err and "learning" in shown.err


def test_train_says_when_the_text_had_no_more_pairs(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("ab ab")
    run("train", tmp_path / "text.txt", "--special", "<a>", "--special", "<b>", "--out", tmp_path)
    assert load_tokenizer(tmp_path).special_tokens == {"<a>": 257, "<b>": 258}
    assert "fewer than the 4,096 asked for: the text has no more that is frequent enough" in capsys.readouterr().out


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


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_every_scheme_is_trained(scheme, tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT)
    assert run("train", tmp_path / "text.txt", "--scheme", scheme, "--vocab-size", "300", "--out", tmp_path / "out") == 0
    tokenizer = load_tokenizer(tmp_path / "out")
    assert len(tokenizer.encode("lowest newer")) < 12 and tokenizer.special_tokens
    with pytest.raises(SystemExit):
        run("train", "--help")
    assert scheme in capsys.readouterr().out


def test_several_sizes_come_of_one_training_and_files_are_read_in_parts(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text(TEXT * 3)
    sizes = ["--vocab-size", "260", "270"]
    run("train", tmp_path / "texts", *sizes, "--memory-limit", "16", "--out", tmp_path / "out")
    for size in (260, 270):
        run("train", tmp_path / "texts", "--vocab-size", str(size), "--out", tmp_path / str(size))
        assert load_tokenizer(tmp_path / "out" / str(size)).fingerprint() == load_tokenizer(tmp_path / str(size)).fingerprint()
    parts = list(file_parts([tmp_path / "texts"], 100))
    assert len(parts) > 10 and b"".join(parts) == (TEXT * 3).encode()


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--scheme", "bpee"], "scheme: got 'bpee', expected one of 'bpe'"),
        (["--scheme", "unigram", "--min-frequency", "3"], "min_frequency: 'unigram' has no such setting"),
        (["--scheme", "unigram", "--vocab-size", "300", "400"], "vocab_size: got 2 sizes; only 'bpe'"),
        (["--memory-limit", "1"], "memory_limit: got 1,048,576 bytes, expected at least 16,777,216"),
    ],
)
def test_settings_that_a_scheme_has_not_are_refused(argv, text, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    with pytest.raises(ValueError, match=text):
        run("train", tmp_path / "text.txt", *argv, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tokenizers_are_compared(folder, tmp_path, capsys):
    ByteTokenizer().save(tmp_path)
    (tmp_path / "text.txt").write_text("lowest newer lowest")
    run("compare", folder, tmp_path, "--text", tmp_path / "text.txt")
    lines = capsys.readouterr().out.splitlines()
    assert "19 bytes" in lines[0] and lines[2].split()[0] == str(folder) and lines[3].split()[1:4] == ["19", "1.00", "6.33"]
    run("compare", folder)
    out = capsys.readouterr().out
    assert all(f"{language}: " in out for language in LANGUAGES)


def test_files_are_converted(folder, tmp_path, capsys):
    run("convert", folder, tmp_path / "x.tiktoken")
    run("convert", tmp_path / "x.tiktoken", tmp_path / "back", "--pattern", "gpt4")
    assert load_tokenizer(tmp_path / "back").encode(TEXT) == load_tokenizer(folder).encode(TEXT)
    with pytest.raises(ValueError, match=r"x.model: such a file holds no BPETokenizer; write tokenizer.json"):
        run("convert", folder, tmp_path / "x.model")
    UnigramTokenizer.train([TEXT], vocab_size=300, normalizer=UNCHANGED).save(tmp_path / "unigram")
    run("convert", tmp_path / "unigram", tmp_path / "u.model")
    assert load_tokenizer(tmp_path / "u.model").encode(TEXT) == load_tokenizer(tmp_path / "unigram").encode(TEXT)


def test_a_page_shows_every_token(folder, tmp_path):
    run("inspect", folder, "lowest <script>alert(1)</script>\n", "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page and "Merge by merge" in page and "[l][o][w][e][s][t]" in page
    for token in load_tokenizer(folder).encode("lowest <script>"):
        assert f"<small>{token}</small>" in page
    UnigramTokenizer.train([TEXT], vocab_size=300).save(tmp_path / "unigram")
    run("inspect", tmp_path / "unigram", "é low", "--html", tmp_path / "page.html")
    assert "Token by token" in (tmp_path / "page.html").read_text()

import base64
import gzip

import pytest

from tinyllm.storage import FormatError
from tinyllm.tokenizers import BPETokenizer
from tinyllm.tokenizers.formats.tiktoken import ENCODINGS, read_ranks, write_ranks

TRAINED = BPETokenizer.train(["low lower lowest newer wider"] * 3, vocab_size=280, pattern="gpt4", special_tokens=())
LINES = [b"%s %d" % (base64.b64encode(token), rank) for rank, token in enumerate(TRAINED.tokens)]


def written(tmp_path, lines, name="some.tiktoken"):
    (tmp_path / name).write_bytes(b"\n".join(lines))
    return tmp_path / name


def test_ranks_are_read_and_written_and_give_the_ids_of_the_merges(tmp_path):
    tokenizer = read_ranks(written(tmp_path, LINES), pattern="gpt4")
    text = "the lowest of the widest, 'LOWER' 12345\n\n  low"
    assert tokenizer.encode(text) == TRAINED.encode(text)
    write_ranks(tokenizer, tmp_path / "again.tiktoken")
    assert (tmp_path / "again.tiktoken").read_bytes() == b"\n".join(LINES) + b"\n"
    write_ranks(TRAINED, tmp_path / "third.tiktoken")
    assert (tmp_path / "third.tiktoken").read_bytes() == b"\n".join(LINES) + b"\n"


def test_a_packed_file_whose_name_is_known_needs_no_pattern(tmp_path):
    path = tmp_path / "r50k_base.tiktoken.gz"
    path.write_bytes(gzip.compress(b"\n".join(LINES)))
    tokenizer = read_ranks(path)
    assert tokenizer.pattern.name == "gpt2" and tokenizer.eos_id == 50256
    assert tokenizer.encode("low <|endoftext|>", allowed_special="all")[-1] == 50256
    assert set(ENCODINGS) == {"r50k_base", "p50k_base", "cl100k_base", "o200k_base"}
    with pytest.raises(ValueError, match="got 40000, which stands for no token"):
        tokenizer.decode([40000])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda lines: lines[:5] + [b"!!! 7"] + lines[5:], "line 6: expected a token in base64"),
        (lambda lines: lines[:5] + [b"YQ=="] + lines[5:], "line 6: expected a token in base64"),
        (lambda lines: [*lines, lines[0]], f"line {len(LINES) + 1}: expected a token in base64, new"),
        (lambda lines: [*lines, b"YWJjZGVm -1"], f"line {len(LINES) + 1}: "),
        (lambda lines: [*lines, b"YWJjZGVm 3"], "ranks: expected each once"),
        (lambda lines: [*lines, b"YWJjZGVm 99999999"], "ranks: expected each once, without large holes"),
        (lambda lines: lines[1:], "tokens: expected each byte and each token once, found b'!' is not in"),
        (lambda lines: [b"version https://git-lfs.github.com"], "a Git LFS pointer"),
    ],
)
def test_what_is_no_file_of_ranks_is_refused_by_line(tmp_path, change, complaint):
    with pytest.raises(FormatError, match=complaint):
        read_ranks(written(tmp_path, change(list(LINES))), pattern="gpt4")


def test_a_torn_gzip_and_an_unknown_name_are_refused(tmp_path):
    torn = tmp_path / "cl100k_base.tiktoken.gz"
    torn.write_bytes(gzip.compress(b"\n".join(LINES))[:-20])
    with pytest.raises(FormatError, match="content: expected a whole gzip file"):
        read_ranks(torn)
    with pytest.raises(ValueError, match="some.tiktoken does not say how text is cut, and its name is none of r50k_base"):
        read_ranks(written(tmp_path, LINES))
    with pytest.raises(FormatError, match=r"special token <\|x\|>: expected an id that no line has, found 3"):
        read_ranks(written(tmp_path, LINES), pattern="gpt4", special_tokens={"<|x|>": 3})


def test_merges_in_another_order_than_their_ids_cannot_be_written_as_ranks(tmp_path):
    tokens = [*TRAINED.tokens[:256], b"ab", b"abc"]
    tokenizer = BPETokenizer(tokens, [(b"ab", b"c"), (b"a", b"b")])
    with pytest.raises(ValueError, match="not in the order of their ids"):
        write_ranks(tokenizer, tmp_path / "x.tiktoken")
    assert not (tmp_path / "x.tiktoken").exists()

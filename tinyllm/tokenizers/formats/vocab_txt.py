"""BERT's vocab.txt: one piece a line, and the line's number is its id.

What else a tokenizer does is said beside it, or is BERT's usual:
tokenizer_config.json may say `do_lower_case` (true where it is silent), `strip_accents` and `tokenize_chinese_chars`.
"""

import os
from pathlib import Path

from tinyllm.storage import FormatError, strict_json, write_file
from tinyllm.tokenizers.encoding import TEXT_A, TEXT_B, Part, Template
from tinyllm.tokenizers.formats.parsed import read_lines
from tinyllm.tokenizers.normalizers import Bert, Normalizer
from tinyllm.tokenizers.special import SETTINGS
from tinyllm.tokenizers.wordpiece import UNKNOWN, WordPieceTokenizer

SPECIAL = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]")


def read_vocab_txt(path: str | os.PathLike[str]) -> WordPieceTokenizer:
    """The tokenizer of a vocab.txt. FormatError if it is none: no [UNK], a piece twice, no UTF-8."""
    path = Path(path)
    pieces = read_lines(path, "pieces")
    while pieces and not pieces[-1]:
        pieces.pop()
    special = {piece: i for i, piece in enumerate(pieces) if piece in SPECIAL}
    try:
        return WordPieceTokenizer(
            [piece or None for piece in pieces], normalizer=Normalizer((_normalizer(path.with_name(SETTINGS)),)),
            special_tokens=special, template=bert_template(special),
        )  # fmt: skip
    except ValueError as error:
        field, _, text = str(error).partition(": ")
        raise FormatError(path, field=field, expected="distinct pieces, among them [UNK]", found=text) from None


def _normalizer(path: Path) -> Bert:
    """What is done to a text, as far as tokenizer_config.json says."""
    settings = strict_json.read(path, schema=strict_json.MapOf(object)) if path.is_file() else {}
    said = {key: settings.get(key) for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars")}
    for key, value in said.items():
        strict_json.check(value, (None, bool), file=path, field=key)
    lower, chinese = (said[key] is not False for key in ("do_lower_case", "tokenize_chinese_chars"))
    return Bert(lowercase=lower, handle_chinese_chars=chinese, strip_accents=said["strip_accents"])


def bert_template(special: dict[str, int]) -> Template:
    """[CLS] A [SEP] B [SEP]; nothing around a text where these tokens are missing."""
    if "[CLS]" not in special or "[SEP]" not in special:
        return Template()

    def mark(name: str, type_id: int = 0) -> Part:
        return Part(type_id, None, (special[name],), (name,), name)

    begin, end = mark("[CLS]"), mark("[SEP]")
    return Template((begin, TEXT_A, end), (begin, TEXT_A, end, TEXT_B, mark("[SEP]", 1)))


def write_vocab_txt(tokenizer: WordPieceTokenizer, path: str | os.PathLike[str]) -> None:
    """Write the pieces, one a line. ValueError for a piece with a line end in it, or another prefix than ##."""
    texts = [token.decode() for token in tokenizer.tokens]
    if tokenizer.prefix != "##" or any("\n" in text or "\r" in text for text in texts):
        raise ValueError("pieces: got a line end or a prefix other than ##, which a vocab.txt cannot say")
    write_file(Path(path), "".join(f"{text}\n" for text in texts).encode())

"""`tinyllm tokenizer`: learn a vocabulary, turn text into ids and back, and look at how words are cut.

Everything a model learns it learns in tokens, so this is the first thing to look at: common words should be one token,
rare ones a few. `inspect DIR TEXT` shows the cuts, and for a single word every merge that led to them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.tokenizers import Tokenizer


TRAIN_EXAMPLES = """examples:
  tinyllm tokenizer train my/texts --vocab-size 4096 --out my/tokenizer
  tinyllm tokenizer train python:docstrings --scheme unigram --out docs/unigram
  tinyllm tokenizer train huge.txt --memory-limit 500 --out huge/tokenizer
"""
ENCODE_EXAMPLES = """examples:
  tinyllm tokenizer encode my/tokenizer "Hello, world"
  cat story.txt | tinyllm tokenizer encode my/tokenizer -
"""
DECODE_EXAMPLES = """examples:
  tinyllm tokenizer decode my/tokenizer 39 68 259
  tinyllm tokenizer encode my/tokenizer Hello | tinyllm tokenizer decode my/tokenizer -
"""
INSPECT_EXAMPLES = """examples:
  tinyllm tokenizer inspect my/tokenizer
  tinyllm tokenizer inspect my/tokenizer "unbelievable"
  tinyllm tokenizer inspect my/tokenizer - --html tokens.html < story.txt
"""
COMPARE_EXAMPLES = """examples:
  tinyllm tokenizer compare my/tokenizer gpt2/tokenizer.json
  tinyllm tokenizer compare my/tokenizer o200k_base.tiktoken --text story.txt
"""
CONVERT_EXAMPLES = """examples:
  tinyllm tokenizer convert spiece.model my/tokenizer
  tinyllm tokenizer convert my/tokenizer ranks.tiktoken
"""


def add_parser(subparsers: Any) -> None:
    """Add `tokenizer` with its verbs."""
    parser = subparsers.add_parser(
        "tokenizer", help="train a tokenizer, encode and decode text, see the cuts", description=lesson(__doc__),
        epilog=TRAIN_EXAMPLES,
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="tokenizer_verb", metavar="<verb>", title="verbs", required=True)
    _add_train(verbs)
    encode = _add_verb(verbs, "encode", run_encode, "text to ids, on one line", ENCODE_EXAMPLES)
    encode.add_argument("text", metavar="TEXT", help="the text, or - for standard input")
    encode.add_argument("--special", action="store_true", help="let the text spell special tokens such as <|endoftext|>")
    decode = _add_verb(verbs, "decode", run_decode, "ids to text", DECODE_EXAMPLES)
    decode.add_argument("ids", metavar="ID", nargs="+", help="ids, or - for standard input")
    inspect = _add_verb(verbs, "inspect", run_inspect, "vocabulary, cuts and merges", INSPECT_EXAMPLES)
    inspect.add_argument("text", metavar="TEXT", nargs="?", help="a text to cut, or - for standard input")
    inspect.add_argument("--html", metavar="FILE", help="write a page that shows every token of the text")
    compare = _add_verb(verbs, "compare", run_compare, "several tokenizers on the same texts", COMPARE_EXAMPLES)
    compare.add_argument("others", metavar="DIR", nargs="*", help="more of them")
    compare.add_argument("--text", metavar="FILE", help="a text, or - for standard input (default: five languages)")
    convert = _add_verb(verbs, "convert", run_convert, "write a tokenizer as another kind of file", CONVERT_EXAMPLES)
    convert.add_argument("target", metavar="TARGET", help="x.model, x.tiktoken, vocab.txt, or a folder for tokenizer.json")
    for verb in (compare, convert):
        verb.add_argument("--pattern", help="how a .tiktoken file cuts text, if its name does not tell")


def _add_train(verbs: Any) -> None:
    summary = "learn a vocabulary from text"
    train = verbs.add_parser("train", help=summary, description=summary.capitalize() + ".", epilog=TRAIN_EXAMPLES)
    train.add_argument("data", metavar="FILE", nargs="+", help="files, folders, URLs, or python (its own docs)")
    train.add_argument("--scheme", default="bpe", help="bpe (default), marked-bpe, unigram, wordpiece, wordpiece-bpe, words")
    train.add_argument("--vocab-size", type=int, nargs="+", default=[4096], metavar="N",
                       help="ids, special ones included (default: 4096); several: each into a folder of --out")  # fmt: skip
    train.add_argument("--pattern", help="how bpe cuts text: gpt2, gpt4, gpt4o, qwen2 or smollm (default: gpt4)")
    train.add_argument("--min-frequency", type=int, metavar="N", help="rarest pair worth a merge (default: 2)")
    train.add_argument("--special", action="append", metavar="TOKEN", help="a special token, repeatable (default: the scheme's)")
    train.add_argument("--memory-limit", type=int, metavar="MB", help="read FILEs in parts, and keep what is too much in files")
    train.add_argument("--out", required=True, metavar="DIR", help="folder for tokenizer.json")
    train.set_defaults(run=run_train)


def _add_verb(verbs: Any, name: str, run: Any, summary: str, epilog: str) -> argparse.ArgumentParser:
    """A verb that reads a tokenizer first."""
    parser = verbs.add_parser(name, help=summary, description=summary.capitalize() + ".", epilog=epilog)
    parser.add_argument("tokenizer", metavar="DIR", help="folder of a tokenizer, a model or a run, or a tokenizer.json")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the verb below `tokenizer` that the command line chose; returns the exit code."""
    return args.run(args)


def run_train(args: argparse.Namespace) -> int:
    """Learn and save. The data's bytes are used as they are, whatever their encoding."""
    from tinyllm.cli.terminal import Terminal
    from tinyllm.data.text.corpus import read_corpus
    from tinyllm.recipes.events import counting
    from tinyllm.recipes.tokenizers import SCHEMES, file_parts, train_scheme
    from tinyllm.storage.out_folder import refuse_unwritable
    from tinyllm.tokenizers.pretokenize import get_pattern

    if args.pattern:
        get_pattern(args.pattern)  # complain before reading anything
    special = args.special or list(SCHEMES.get(args.scheme, ((), ()))[1])
    out = Path(os.path.expanduser(args.out))
    refuse_unwritable(out)
    folders = [out] if len(args.vocab_size) == 1 else [out / str(size) for size in args.vocab_size]
    if taken := next((folder for folder in folders if (folder / "tokenizer.json").exists()), None):
        raise ValueError(f"--out: {taken} holds a tokenizer.json, which a model may need; choose another folder, or remove it")
    documents: Any = file_parts(args.data)
    if args.memory_limit is None:
        sources = read_corpus(args.data, end_of_text=special)
        for source in sources:
            for line in (*source.notes, *(f"passed over: {line}" for line in source.skipped)):
                print(f"  {line}")
        documents = [document for source in sources for document in source.documents]
    total = None if args.memory_limit else len(documents)
    with Terminal() as show:
        counted, learned = counting(show, "counting words", unit="document"), counting(show, "learning", unit="token")
        tokenizers = train_scheme(
            documents, args.scheme, vocab_sizes=args.vocab_size, special_tokens=special, pattern=args.pattern,
            min_frequency=args.min_frequency, memory_limit=args.memory_limit and args.memory_limit << 20,
            progress=lambda stage, done, of: counted(done, total) if stage == "count" else learned(done, of),
        )  # fmt: skip
    for folder, size, tokenizer in zip(folders, args.vocab_size, tokenizers, strict=True):
        read = "" if args.memory_limit else f" from {sum(map(len, documents)):,} bytes"
        print(f"{tokenizer.save(folder)}: {tokenizer.vocab_size:,} tokens{read}")
        if tokenizer.vocab_size < size:
            print(f"fewer than the {size:,} asked for: the text has no more that is frequent enough")
    return 0


def _load(path: str) -> Tokenizer:
    """The tokenizer that a folder or file stands for."""
    from tinyllm.tokenizers import load_tokenizer
    from tinyllm.training import find_tokenizer

    return load_tokenizer(find_tokenizer(path))


def run_encode(args: argparse.Namespace) -> int:
    """Print the ids, separated by spaces. Standard input is encoded as it comes, so it may be larger than memory."""
    tokenizer = _load(args.tokenizer)
    chunks = _standard_input() if args.text == "-" else [args.text]
    separator = ""
    for token_id in tokenizer.encode_iterable(chunks, allowed_special="all" if args.special else ()):
        sys.stdout.write(f"{separator}{token_id}")
        separator = " "
    sys.stdout.write("\n")
    return 0


def run_decode(args: argparse.Namespace) -> int:
    """Print the text of the ids: to a pipe exactly their bytes, to a terminal as text with a line end."""
    given = b"".join(_standard_input()).decode("ascii", "replace") if args.ids == ["-"] else " ".join(args.ids)
    words = given.split()
    wrong = next((word for word in words if not word.isdecimal() or len(word) > 18), None)
    if wrong is not None:
        raise ValueError(f"ID: got {wrong[:40]!r}, expected whole numbers such as 39 68 259")
    data = _load(args.tokenizer).decode_bytes(map(int, words))
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None or sys.stdout.isatty():
        print(data.decode("utf-8", "replace"))
    else:
        sys.stdout.flush()
        binary.write(data)
    return 0


def run_inspect(args: argparse.Namespace) -> int:
    """Print what the tokenizer is; with a text, how it is cut; with one word, how its tokens came about."""
    from tinyllm.tokenizers.cuts import facts, mark_tokens, merges_of

    tokenizer = _load(args.tokenizer)
    for name, value in facts(tokenizer):
        print(f"{name:<12} {value}")
    if args.text is None:
        return 0
    data = b"".join(_standard_input()) if args.text == "-" else os.fsencode(args.text)
    ids = tokenizer.encode(data)
    if args.html:
        from tinyllm.report.tokens import tokens_page
        from tinyllm.storage import write_file

        write_file(Path(args.html), tokens_page(tokenizer, data, name=str(args.tokenizer)).encode("utf-8"))
        print(f"{args.html}: every token of the text")
    print()
    print(mark_tokens((tokenizer.token_bytes(i) for i in ids), colour=_wants_colour()))
    print(f"{len(ids):,} tokens, {len(data):,} bytes, {len(data) / max(len(ids), 1):.2f} bytes per token")
    if steps := merges_of(tokenizer, data):
        print("\nmerge by merge:", *steps, sep="\n  ")
    return 0


def run_compare(args: argparse.Namespace) -> int:
    """Print a table for each text: tokens, bytes per token, tokens per word, time; the fewest tokens first."""
    from tinyllm.recipes.tokenizers import LANGUAGES, compare, read_any

    tokenizers = {path: read_any(path, args.pattern) for path in (args.tokenizer, *args.others)}
    texts = dict(LANGUAGES)
    if args.text is not None:
        data = b"".join(_standard_input()) if args.text == "-" else Path(args.text).read_bytes()
        texts = {args.text: data.decode("utf-8", "surrogateescape")}
    width = max(map(len, tokenizers))
    for name, found in compare(tokenizers, texts).items():
        print(f"{name}: {len(texts[name].encode('utf-8', 'surrogateescape')):,} bytes")
        print(f"  {'':<{width}}  {'tokens':>10}  {'bytes/token':>11}  {'tokens/word':>11}  {'ms':>9}")
        for path, row in sorted(found.items(), key=lambda item: item[1].tokens):
            numbers = f"{row.tokens:>10,}  {row.bytes_per_token:>11.2f}  {row.tokens_per_word:>11.2f}  {row.seconds * 1000:>9.2f}"
            print(f"  {path:<{width}}  {numbers}")
    return 0


def run_convert(args: argparse.Namespace) -> int:
    """Write the tokenizer as the kind of file that the target's name says."""
    from tinyllm.recipes.tokenizers import convert, read_any

    tokenizer = read_any(args.tokenizer, args.pattern)
    print(f"{convert(tokenizer, os.path.expanduser(args.target))}: {tokenizer.vocab_size:,} tokens")
    return 0


def _wants_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _standard_input() -> Iterable[bytes]:
    """Standard input in pieces of 64 kB."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:  # replaced by a text stream
        return [sys.stdin.read().encode("utf-8", "surrogateescape")]
    return iter(lambda: stream.read(1 << 16), b"")

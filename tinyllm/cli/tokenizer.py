"""`tinyllm tokenizer`: train a byte-pair tokenizer, turn text into ids and back, and look at how it cuts words.

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
  tinyllm tokenizer train python:docstrings --pattern gpt2 --out docs/tokenizer
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
  tinyllm tokenizer inspect my/tokenizer - < story.txt
"""


def add_parser(subparsers: Any) -> None:
    """Add `tokenizer` with its verbs train, encode, decode and inspect."""
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


def _add_train(verbs: Any) -> None:
    summary = "learn a byte-pair vocabulary from text"
    train = verbs.add_parser("train", help=summary, description=summary.capitalize() + ".", epilog=TRAIN_EXAMPLES)
    train.add_argument("data", metavar="FILE", nargs="+", help="files, folders, URLs, or python (this Python's own docs)")
    train.add_argument("--vocab-size", type=int, default=4096, metavar="N", help="ids, special ones included (default: 4096)")
    train.add_argument("--pattern", default="gpt4", help="how text is cut: gpt2, gpt4, gpt4o, qwen2 or smollm (default: gpt4)")
    train.add_argument("--min-frequency", type=int, default=2, metavar="N", help="rarest pair worth a merge (default: 2)")
    train.add_argument("--special", action="append", metavar="TOKEN", help="a special token, repeatable (default: <|endoftext|>)")
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
    from tinyllm.storage.out_folder import refuse_unwritable
    from tinyllm.tokenizers import END_OF_TEXT, BPETokenizer
    from tinyllm.tokenizers.pretokenize import get_pattern

    get_pattern(args.pattern)  # complain before reading anything
    special = args.special or [END_OF_TEXT]
    out = Path(os.path.expanduser(args.out))
    refuse_unwritable(out)
    if (out / "tokenizer.json").exists():
        raise ValueError(f"--out: {out} holds a tokenizer.json, which a model may need; choose another folder, or remove it")
    sources = read_corpus(args.data, end_of_text=special)
    for source in sources:
        for line in (*source.notes, *(f"passed over: {line}" for line in source.skipped)):
            print(f"  {line}")
    documents = [document for source in sources for document in source.documents]
    with Terminal() as show:
        counted, merged = counting(show, "counting words", unit="document"), counting(show, "merging pairs", unit="token")
        tokenizer = BPETokenizer.train(
            documents, vocab_size=args.vocab_size, pattern=args.pattern, min_frequency=args.min_frequency,
            special_tokens=special,
            progress=lambda stage, done, total: counted(done, len(documents)) if stage == "count" else merged(done, total),
        )  # fmt: skip
    path = tokenizer.save(out)
    print(f"{path}: {tokenizer.vocab_size:,} tokens from {sum(map(len, documents)):,} bytes")
    if tokenizer.vocab_size < args.vocab_size:
        print(f"fewer than the {args.vocab_size:,} asked for: no other pair occurs {args.min_frequency} times")
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
    print()
    print(mark_tokens((tokenizer.token_bytes(i) for i in ids), colour=_wants_colour()))
    print(f"{len(ids):,} tokens, {len(data):,} bytes, {len(data) / max(len(ids), 1):.2f} bytes per token")
    if steps := merges_of(tokenizer, data):
        print("\nmerge by merge:", *steps, sep="\n  ")
    return 0


def _wants_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _standard_input() -> Iterable[bytes]:
    """Standard input in pieces of 64 kB."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:  # replaced by a text stream
        return [sys.stdin.read().encode("utf-8", "surrogateescape")]
    return iter(lambda: stream.read(1 << 16), b"")

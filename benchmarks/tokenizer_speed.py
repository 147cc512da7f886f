"""How fast are texts encoded and decoded, beside tiktoken, gigatoken, sentencepiece and Hugging Face's?

    python benchmarks/tokenizer_speed.py ranks cl100k_base.tiktoken.gz [--threads 2]
    python benchmarks/tokenizer_speed.py huggingface FOLDER/tokenizer.json
    python benchmarks/tokenizer_speed.py sentencepiece FILE.model
    python benchmarks/tokenizer_speed.py hostile cl100k_base.tiktoken.gz

The text is the source of Python's own library, about 30 MB. First the ids must be equal, then the sides take turns, and the
median is printed. "cold": a tokenizer that has seen nothing; "warm": it has seen this text. None of these computes offsets
here but Hugging Face's, which always does. `hostile`: one character, repeated; twice as much must take about twice as long.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: find the project around it
    sys.path[0] = str(Path(__file__).parents[1])
from benchmarks.side_by_side import table, take_turns, with_quartiles
from tinyllm.kernels.threads import use_threads
from tinyllm.tokenizers import Tokenizer, load_tokenizer
from tinyllm.tokenizers.formats.tiktoken import read_ranks

SHORT = [
    "Hello, world!", "What is a token?", "def f(x): return x + 1", "The quick brown fox jumps over the lazy dog.", "¿Qué tal?",
    "don't", "1234567", "  indented", "line\nline", "🎉 done",
]  # fmt: skip
HOSTILE = {"a": "a", "^": "^", "space": " ", "digit": "7", "line end": "\n", "combining mark": "\u0301", "Chinese": "中"}


def documents() -> list[str]:
    """The source of Python's library that is UTF-8, file by file."""
    texts = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" not in path.parts:
            texts.append(path.read_text("utf-8", "ignore"))
    return texts


def library() -> str:
    """All of it as one text."""
    return "".join(documents())


def seconds(run: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peers_of_ranks(path: Path, tokenizer: Any) -> dict[str, Any]:
    """tiktoken and gigatoken on the same ranks; those that are installed."""
    found = {}
    try:
        from benchmarks.tokenizer_parity import tiktoken_encoding

        found["tiktoken"] = tiktoken_encoding(path, tokenizer)
    except ImportError:
        pass
    try:
        import gigatoken

        from tinyllm.tokenizers.formats.tiktoken import write_ranks

        with tempfile.TemporaryDirectory() as folder:
            write_ranks(tokenizer, Path(folder) / "ranks.tiktoken")
            scheme = {"gpt4o": "o200k"}.get(tokenizer.pattern.name, tokenizer.pattern.name)
            found["gigatoken"] = gigatoken.Tokenizer.from_tiktoken(Path(folder) / "ranks.tiktoken", scheme)
    except ImportError:
        pass
    return found


def compare_ranks(path: Path, rounds: int) -> None:
    """Encoding and decoding of the library, and of ten short texts."""
    text = library()
    data = text.encode()
    load = [seconds(lambda: read_ranks(path)) for _ in range(3)]
    tokenizer = read_ranks(path)
    first = seconds(lambda: tokenizer.encode_arrays([text[: 1 << 17]]))
    print(f"{path.name}: read in {statistics.median(load):.2f} s; first call after that {first:.2f} s")
    peers = peers_of_ranks(path, tokenizer)
    ids = tokenizer.encode_arrays([text])[0]
    if "tiktoken" in peers:
        assert ids.tolist() == peers["tiktoken"].encode_ordinary(text), "tinyllm and tiktoken differ"
    turns: dict[str, Callable[[], float]] = {"tinyllm warm": lambda: seconds(lambda: tokenizer.encode_arrays([data]))}

    def cold() -> float:
        tokenizer._coder.words.table[:] = 0
        tokenizer._coder.words.used[:] = 0
        return seconds(lambda: tokenizer.encode_arrays([data]))

    turns["tinyllm cold"] = cold
    if "gigatoken" in peers:
        turns["gigatoken warm"] = lambda: seconds(lambda: peers["gigatoken"].encode(data))
    if "tiktoken" in peers:
        turns["tiktoken"] = lambda: seconds(lambda: peers["tiktoken"].encode_ordinary(text))
        turns["tinyllm decode"] = lambda: seconds(lambda: tokenizer.decode_bytes(listed))
        turns["tiktoken decode"] = lambda: seconds(lambda: peers["tiktoken"].decode_bytes(listed))
        many = range(300)
        turns["tinyllm ten short"] = lambda: seconds(lambda: [[tokenizer.encode(t) for t in SHORT] for _ in many])
        turns["tiktoken ten short"] = lambda: seconds(lambda: [[peers["tiktoken"].encode(t) for t in SHORT] for _ in many])
    listed = ids.tolist()
    show(turns, rounds, len(data))


def show(turns: dict[str, Callable[[], float]], rounds: int, size: int) -> None:
    """Take turns; a line each, with the rate, or for the short texts the time of ten."""
    times = list(take_turns(turns, rounds=rounds))
    lines = [["", "ms", "MB/s"]]
    for name in turns:
        values = [one[name] * (1000 / 300 if "short" in name else 1) for one in times]
        rate = "" if "short" in name else f"{size / statistics.median(values) / 1e6:.1f}"
        lines.append([name, with_quartiles([value * (1 if "short" in name else 1000) for value in values], digits=3), rate])
    print(table(lines))


def compare_file(path: Path, rounds: int) -> None:
    """A tokenizer.json beside Hugging Face, which computes offsets too."""
    import tokenizers

    tokenizer, peer = load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
    peer.no_truncation()
    peer.no_padding()
    text = library()
    part = text[: 1 << 21]
    compare_rates(
        tokenizer, [text], "Hugging Face", [part], lambda texts: peer.encode(texts[0], add_special_tokens=False).ids, rounds
    )


def compare_model(path: Path, rounds: int) -> None:
    """A SentencePiece model beside sentencepiece, which computes offsets in neither call; a text is a file of the library."""
    import sentencepiece

    peer = sentencepiece.SentencePieceProcessor(model_file=str(path))
    texts = documents()
    compare_rates(load_tokenizer(path), texts, "sentencepiece", texts[:400], lambda part: sum(peer.encode(part), []), rounds)


def compare_rates(
    tokenizer: Tokenizer, texts: list[str], peer: str, part: list[str], encode: Callable[[list[str]], list[int]], rounds: int
) -> None:
    """Equal ids of `part` first, then turns: ours with all `texts`, the peer with `part`."""
    tokenizer.encode_arrays(texts)
    ours = tokenizer.encode_arrays(part)
    assert [i for ids in ours for i in ids.tolist()] == encode(part), f"tinyllm and {peer} differ"
    sizes = {"tinyllm": sum(len(text.encode()) for text in texts), peer: sum(len(text.encode()) for text in part)}
    turns = {"tinyllm": lambda: seconds(lambda: tokenizer.encode_arrays(texts)), peer: lambda: seconds(lambda: encode(part))}
    times = list(take_turns(turns, rounds=rounds))
    rates = {name: [size / one[name] / 1e6 for one in times] for name, size in sizes.items()}
    ratio = [a / b for a, b in zip(rates["tinyllm"], rates[peer], strict=True)]
    for name, values in rates.items():
        print(f"{name:>14} {with_quartiles(values)} MB/s")
    print(f"{'ratio':>14} {with_quartiles(ratio)}")


def grow(tokenizer: Tokenizer) -> None:
    """One character n and 2n times: the ratio of the times."""
    for name, unit in HOSTILE.items():
        times = []
        for n in (1_000_000, 2_000_000, 4_000_000):
            text = unit * n
            times.append(statistics.median(seconds(lambda text=text: tokenizer.encode_arrays([text])) for _ in range(3)))
        ratios = ", ".join(f"{b / a:.2f}" for a, b in zip(times, times[1:], strict=False))
        print(f"{name:>16}: {times[0] * 1000:7.1f} ms a million, t(2n)/t(n) {ratios}")


def main() -> None:
    """Read the arguments and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("ranks", "huggingface", "sentencepiece", "hostile"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    use_threads(args.threads)
    os.environ.update(RAYON_NUM_THREADS=str(args.threads), TOKENIZERS_PARALLELISM="false")
    if args.what == "ranks":
        compare_ranks(args.file, args.rounds)
    elif args.what == "huggingface":
        compare_file(args.file, args.rounds)
    elif args.what == "sentencepiece":
        compare_model(args.file, args.rounds)
    else:
        grow(read_ranks(args.file) if ".tiktoken" in args.file.name else load_tokenizer(args.file))


if __name__ == "__main__":
    main()

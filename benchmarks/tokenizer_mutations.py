"""Are damaged tokenizer files refused by a typed error, or read as a tokenizer that works? Thousands of each kind.

    python benchmarks/tokenizer_mutations.py [--count 5000] [--seed 0] [KIND ...]

Bytes are changed, cut out, doubled and cut off; in JSON also values are replaced by others. A FormatError, ValueError or
OSError is an answer. Otherwise the tokenizer must encode texts into ids that it can decode, with offsets in their place, within
seconds, and be the same when it is written and read again. Anything else is printed with the seed that makes it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: find the project around it
    sys.path[0] = str(Path(__file__).parents[1])
from tinyllm.recipes.tokenizers import read_any
from tinyllm.tokenizers import BPETokenizer, UnigramTokenizer, WordPieceTokenizer, WordTokenizer
from tinyllm.tokenizers.formats.tiktoken import write_ranks

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures" / "tokenizers"
TEXTS = [
    "Hello, the lowest  newest\n\n12345 <s></s>",
    "naïve café 中文 日本 🎉 e\u0301 ﬁ\0\t",
    "x" * 300,
    "",
    " ▁ ##a [UNK]",
    b"\xff\xfe ok",
]
VALUES: list[Any] = [None, True, -1, 0, 1.5, 10**20, "", "a", "\u2581", "x" * 2000, [], {}, [["a", "b"]], {"type": "Nothing"}]
SECONDS = 10  # that one file may take


def kinds() -> dict[str, tuple[str, bytes]]:
    """kind -> (name of the file, content); none has more than about a thousand tokens."""
    text = ["the lowest newest widest words of the lower low, 12 naïve cafés\n" * 3]
    found = {path.stem + path.suffix: (path.name, path.read_bytes()) for path in sorted((FIXTURES / "schemes").iterdir())}
    found.pop("expected.json", None)
    found = {name: (name if name.endswith(".model") else "tokenizer.json", data) for name, (_, data) in found.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, tokenizer in {
            "bytes": BPETokenizer.train(text, vocab_size=320, pattern="gpt4"),
            "unigram_own": UnigramTokenizer.train(text, vocab_size=320),
            "wordpiece_own": WordPieceTokenizer.train(text, vocab_size=80),
            "words": WordTokenizer.train(text, vocab_size=20),
        }.items():
            found[name] = ("tokenizer.json", tokenizer.save(Path(folder) / name).read_bytes())
            if isinstance(tokenizer, BPETokenizer):
                write_ranks(tokenizer, Path(folder) / "ranks")
                found["ranks"] = ("x.tiktoken", (Path(folder) / "ranks").read_bytes())
                found["packed ranks"] = ("x.tiktoken.gz", gzip.compress(found["ranks"][1]))
    found["vocab.txt"] = ("vocab.txt", "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abc", "##a", "##b"]).encode())
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value inside a JSON value; of long lists and objects, to the first of each."""
    if isinstance(value, dict):
        items = list(value.items())[:20]
    elif isinstance(value, list):
        items = list(enumerate(value))[:20]
    else:
        items = []
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))][path == () :]


def with_other_value(data: bytes, rng: random.Random) -> bytes:
    """JSON in which one value is another, or is left out, or has another name."""
    content = json.loads(data)
    path = rng.choice(places(content))
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    choice = rng.random()
    if choice < 0.15 and isinstance(holder, dict):
        del holder[path[-1]]
    elif choice < 0.25 and isinstance(holder, dict):
        holder[rng.choice(["type", "id", "x"])] = holder.pop(path[-1])
    else:
        holder[path[-1]] = rng.choice([*VALUES, rng.randrange(-3, 2000)])
    return json.dumps(content, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def mutated(name: str, data: bytes, rng: random.Random) -> bytes:
    """One change mostly, up to three."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if name.endswith(".json") and rng.random() < 0.7:
            try:
                data = with_other_value(data, rng)
            except (ValueError, IndexError, TypeError):
                pass
            continue
        at, length = rng.randrange(len(data) + 1), rng.randint(1, 40)
        data = rng.choice([
            data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
            data[:at] + data[at + length :],
            data[:at] + data[at : at + length] + data[at:],
            data[:at] + rng.randbytes(length) + data[at:],
            data[:at] if rng.random() < 0.3 else data[:at] + b"\0" + data[at:],
        ])  # fmt: skip
    return data


def outcome(path: Path, folder: Path) -> str:
    """ "refused" or "read"; whatever else happens is raised."""
    try:
        tokenizer = read_any(path, "gpt4")
    except (ValueError, OSError) as error:
        assert str(error), "an error without a word"
        return "refused"
    ids = []
    for text in TEXTS:
        found = tokenizer.encode(text)
        encoding = tokenizer.encoding(text, add_template=False)
        assert encoding.ids == found and all(0 <= i < tokenizer.vocab_size for i in found), "ids"
        n = len(text if isinstance(text, str) else text.decode("utf-8", "surrogateescape"))
        assert all(0 <= begin <= end <= n for begin, end in encoding.offsets), "offsets"
        tokenizer.decode(found)
        ids.append(found)
    try:
        again = read_any(tokenizer.save(folder / "again").parent)
    except ValueError as error:  # what a file cannot say is said
        assert "cannot" in str(error) or "needs" in str(error), f"written, but not read: {error}"
        return "read"
    assert [again.encode(text) for text in TEXTS] == ids, "other ids when written and read again"
    return "read"


def stopped(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def main(check: Callable[[Path, Path], str] = outcome) -> int:
    """Count outcomes, print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, stopped)
    wrong = 0
    for kind, (name, data) in kinds().items():
        if args.kinds and kind not in args.kinds:
            continue
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(args.seed, args.seed + args.count):
                path = Path(folder) / name
                path.write_bytes(mutated(name, data, random.Random(f"{kind} {seed}")))
                signal.alarm(SECONDS)
                try:
                    counts[check(path, Path(folder))] += 1
                except Exception as error:
                    counts["WRONG"] += 1
                    if counts["WRONG"] <= 3:
                        print(f"  {kind}, seed {seed}: {type(error).__name__}: {error}"[:300])
                finally:
                    signal.alarm(0)
        wrong += counts["WRONG"]
        print(f"{kind}: " + ", ".join(f"{n:,} {what}" for what, n in sorted(counts.items())), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

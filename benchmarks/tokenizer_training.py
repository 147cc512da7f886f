"""How long does learning a vocabulary take, beside Hugging Face's, gigatoken's and sentencepiece's trainers?

    python benchmarks/tokenizer_training.py bpe | wordpiece | marked | unigram
    python benchmarks/tokenizer_training.py memory [--limit MB]

The text is the source of Python's own library, about 30 MB; each side uses all cores. First the results must fit: the merges of
byte-level BPE must be Hugging Face's, and the likelihood that Unigram's pieces give the text must not be below sentencepiece's
by more than a thousandth. Then the sides take turns, and the median is printed. `memory`: a text four times as large as the
limit, of a million different words, gives the merges that it gives without one. The system is told to refuse more than the
limit (RLIMIT_DATA); what is printed counts pages of temporary files too, which it may take back.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: find the project around it
    sys.path[0] = str(Path(__file__).parents[1])
from benchmarks.side_by_side import table, take_turns, with_quartiles
from benchmarks.tokenizer_speed import library, seconds
from tinyllm.kernels.examples import learn_merges
from tinyllm.tokenizers import BPETokenizer, SentencePieceBPETokenizer, UnigramTokenizer, WordPieceTokenizer
from tinyllm.tokenizers.layout import from_visible
from tinyllm.tokenizers.pretokenize import get_pattern
from tinyllm.tokenizers.unigram_train import expected_counts

CHUNK = 100_000  # characters of a document
LETTERS = str.maketrans("0123456789", "ghijklmnop")


def pieces_of(text: str) -> list[str]:
    """The text in documents that end where a line begins with a letter."""
    documents, place = [], 0
    while place < len(text):
        end = text.find("\nd", place + CHUNK)  # "def" mostly
        end = len(text) if end < 0 else end + 1
        documents.append(text[place:end])
        place = end
    return documents


def bpe(documents: list[str]) -> dict[str, Callable[[], Any]]:
    """32,000 tokens, cut by GPT-4's pattern."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    def theirs() -> Any:
        tokenizer = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(get_pattern("gpt4").published), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
        trainer = trainers.BpeTrainer(
            vocab_size=32_000, min_frequency=2, show_progress=False, special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        tokenizer.train_from_iterator(documents, trainer)
        return tokenizer

    def ours() -> BPETokenizer:
        return BPETokenizer.train(documents, vocab_size=32_000)

    merges = json.loads(theirs().to_str())["model"]["merges"]
    merges = [tuple(map(from_visible, merge if isinstance(merge, list) else merge.split(" "))) for merge in merges]
    assert ours().merges == merges
    print(f"merges: {len(merges):,}, the same as Hugging Face's")
    sides: dict[str, Callable[[], Any]] = {"tinyllm": ours, "Hugging Face": theirs}
    try:
        import gigatoken

        path = Path(tempfile.mkdtemp()) / "text"
        path.write_text("".join(documents), "utf-8")
        sides["gigatoken"] = lambda: gigatoken.train_bpe(str(path), 32_000, ["<|endoftext|>"])
    except ImportError:
        pass
    return sides


def wordpiece(documents: list[str]) -> dict[str, Callable[[], Any]]:
    """30,000 pieces; Hugging Face's trainer does not know the rule of the papers."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    def theirs() -> Any:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer = trainers.WordPieceTrainer(vocab_size=30_000, min_frequency=2, show_progress=False, special_tokens=special)
        tokenizer.train_from_iterator(documents, trainer)
        return tokenizer

    return {
        "by frequency": lambda: WordPieceTokenizer.train(documents, vocab_size=30_000, rule="frequency"),
        "by likelihood": lambda: WordPieceTokenizer.train(documents, vocab_size=30_000, min_frequency=20),
        "Hugging Face": theirs,
    }


def sentencepiece_model(text: str, kind: str) -> Any:
    """8,000 pieces by sentencepiece's trainer on two threads."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_writer=model, vocab_size=8_000, model_type=kind, num_threads=2,
        byte_fallback=True, max_sentence_length=100_000, minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def marked(documents: list[str]) -> dict[str, Callable[[], Any]]:
    """BPE with marked spaces, 8,000 pieces."""
    text = "".join(documents)
    return {
        "tinyllm": lambda: SentencePieceBPETokenizer.train(documents, vocab_size=8_000),
        "sentencepiece": lambda: sentencepiece_model(text, "bpe"),
    }


def unigram(documents: list[str]) -> dict[str, Callable[[], Any]]:
    """8,000 pieces. Log likelihood: over all cuts of the words whose characters both know."""
    text = "".join(documents)
    theirs, ours = sentencepiece_model(text, "unigram"), UnigramTokenizer.train(documents, vocab_size=8_000)
    usual = [i for i in range(8_000) if not (theirs.is_byte(i) or theirs.is_unknown(i) or theirs.is_control(i))]
    scores = [
        {tuple(theirs.id_to_piece(i).replace("▁", " ")): theirs.get_score(i) for i in usual},
        {tuple((ours.pieces.texts[i] or "").replace("▁", " ")): float(ours.scores[i]) for i in range(259, 8_000)},
    ]
    assert len(scores[0]) == len(scores[1])
    letters = {piece[0] for piece in scores[0].keys() | scores[1].keys() if len(piece) == 1}
    common = {letter for letter in letters if (letter,) in scores[0] and (letter,) in scores[1]}
    counted = Counter(word for line in text.split("\n") for word in theirs.normalize(line).replace("▁", " ").split())
    words = [(tuple(f" {word}"), n) for word, n in counted.most_common(60_000) if set(word) <= common]
    values = [expected_counts(words, known)[1] for known in scores]
    print(f"log likelihood of {len(words):,} words: sentencepiece {values[0]:,.0f}, tinyllm {values[1]:,.0f}", end=" ")
    print(f"({100 * (values[1] / values[0] - 1):+.2f} %, less is better)")
    assert values[1] > 1.001 * values[0]
    return {
        "tinyllm": lambda: UnigramTokenizer.train(documents, vocab_size=8_000),
        "sentencepiece": lambda: sentencepiece_model(text, "unigram"),
    }


def unlike_words(n_bytes: int) -> Iterator[str]:
    """Documents of a million different words, made as they are asked for."""
    rng = random.Random(0)
    made = 0
    while made < n_bytes:
        words = [f"{rng.getrandbits(20):05x}".translate(LETTERS) for _ in range(8_000)]
        made += sum(map(len, words)) + len(words)
        yield " ".join(words)


def trained_within(limit: int | None, n_bytes: int, answer: Any) -> None:
    """Train in a process of its own; send the merges and the megabytes that it took above what it had before."""
    learn_merges()  # so that compiled code is loaded
    BPETokenizer.train(unlike_words(1 << 22), vocab_size=300, memory_limit=1 << 24)
    if limit is not None:
        used = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (used + limit, used + limit))  # more than that is a MemoryError
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tokenizer = BPETokenizer.train(unlike_words(n_bytes), vocab_size=8_000, memory_limit=limit)
    answer.send((tokenizer.merges, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def memory(limit: int) -> None:
    """Print what training takes with a limit (MB) and without one."""
    merges = []
    for allowed in (limit << 20, None):
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=trained_within, args=(allowed, 4 * limit << 20, there))
        start = time.perf_counter()
        process.start()
        found, megabytes = here.recv()
        process.join()
        spent = time.perf_counter() - start
        merges.append(found)
        said = f"{limit} MB" if allowed else "none"
        print(f"limit {said}: {4 * limit} MB of text, {megabytes:,.0f} MB more than before, {spent:.0f} s, {len(found):,} merges")
    assert merges[0] == merges[1]
    print("the same merges")


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bpe", "wordpiece", "marked", "unigram", "memory"])
    parser.add_argument("--limit", type=int, default=64, help="MB, for memory (default: 64)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.what == "memory":
        memory(args.limit)
        return
    documents = pieces_of(library())
    sides = {"bpe": bpe, "wordpiece": wordpiece, "marked": marked, "unigram": unigram}[args.what](documents)
    rounds = list(take_turns({name: lambda run=run: seconds(run) for name, run in sides.items()}, rounds=args.rounds))
    first = next(iter(sides))
    rows = [["", "seconds", f"times {first}"]]
    for name in sides:
        rows.append(
            [name, with_quartiles([one[name] for one in rounds]), with_quartiles([one[name] / one[first] for one in rounds])]
        )
    print(table(rows))


if __name__ == "__main__":
    main()

"""Sorting texts with a language model: what predicting words has taught helps where labels are few.

A passage of 24 tokens is from the language reference, from docstrings, or from source code: which? 60 passages are
labelled, far too few to learn English and Python from. Four answers are compared on the same held-out passages: always the
commonest class; naive Bayes, which counts words and does not see their order; a GPT with a head, from random weights;
and the same GPT after it has learned to predict the next token of unlabelled text. The labels are the same for all of them.

Radford et al. 2018, "Improving language understanding by generative pre-training", section 3.2.

Read next: tinyllm/finetuning/classification.py, tinyllm/models/heads.py.
"""

from __future__ import annotations

import lesson
import numpy as np

from tinyllm.data import RandomWindows, Source, read_standard_library, split_sources
from tinyllm.finetuning import (
    LabelledTexts,
    MajorityBaseline,
    WordCountBaseline,
    classification_loss,
    confusion_matrix,
    labelled_batches,
)
from tinyllm.models import GPT, GPTConfig, SequenceClassifier
from tinyllm.pretraining import next_token_loss
from tinyllm.report.chart import Bars, HeatMap, picture
from tinyllm.tokenizers import BPETokenizer
from tinyllm.training import StepRecord, TrainConfig, train

LENGTH = 24  # tokens in a passage
SHAPE = {"block_size": 32, "n_layers": 3, "n_heads": 4, "d_model": 128, "bias": False, "init_std": 0.05}
QUIET = {"eval_interval": 0, "checkpoint_interval": 0, "warmup_steps": 20}

Passages = tuple[list[list[int]], list[int]]  # token ids, and the class of each


def read_ids(sources: list[Source], tokenizer: BPETokenizer, *, n_bytes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each source the ids to learn from and, from other documents, the ids to be tested on."""
    train, test = split_sources({source.name: source.documents for source in sources}, 0.2)
    return [
        (
            np.array(tokenizer.encode(b"\n".join(train[name])[:n_bytes])),
            np.array(tokenizer.encode(b"\n".join(test[name])[: n_bytes // 4])),
        )
        for name in train
    ]


def draw_passages(ids: list[np.ndarray], n: int, rng: np.random.Generator) -> Passages:
    """n passages from random places, a third of each source."""
    labels = [i % len(ids) for i in range(n)]
    starts = [int(rng.integers(len(ids[label]) - LENGTH)) for label in labels]
    return [ids[label][start : start + LENGTH].tolist() for label, start in zip(labels, starts, strict=True)], labels


def last_loss(records: object) -> float:
    """Runs the training; the mean loss of the last ten steps."""
    losses = [record.loss for record in records if isinstance(record, StepRecord)]  # type: ignore[attr-defined]
    return float(np.mean(losses[-10:]))


def classify(trunk: GPT, labelled: Passages, test: Passages, *, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Trains a head and the trunk under it; the confusion matrix on the test passages."""
    model = SequenceClassifier(trunk, 3, rng=rng)
    config = TrainConfig(max_steps=steps, batch_size=32, learning_rate=5e-4, min_learning_rate=1e-5, **QUIET)
    last_loss(train(model, LabelledTexts(*labelled, batch_size=32, rng=rng), config=config, loss_fn=classification_loss))
    return confusion_matrix(model, labelled_batches(*test, batch_size=100), n_labels=3)


def draw(found: dict[str, float], matrix: np.ndarray, names: list[str], n_test: int) -> str:
    """The four accuracies with one standard error, and where the best one errs."""
    errors = [float(np.sqrt(accuracy * (1 - accuracy) / n_test)) for accuracy in found.values()]
    shares = matrix / matrix.sum(axis=1, keepdims=True)
    return picture([
        Bars(f"accuracy on {n_test:,} passages of other documents", list(found), {"": list(found.values())}, {"": errors},
             form=tenths, high=1.0, paint=[2, 2, 1, 0]),
        HeatMap("the pre-trained GPT's answers (row: truth)", shares.tolist(), names, names, numbers=matrix.tolist()),
    ], title="What predicting words has taught helps where labels are few", shares=(1.5, 1))  # fmt: skip


def tenths(share: float) -> str:
    """A share with one decimal."""
    return f"{share:.1%}"


def main(
    steps: int = 500, seed: int = 0, *, tune_steps: int = 40, n_labelled: int = 60, n_test: int = 1500, figure: str | None = None
) -> dict[str, float]:
    """Pre-train, fine-tune, and compare with what is cheaper; returns the accuracies."""
    rng, text_rng = np.random.default_rng(seed), np.random.default_rng(1)
    sources = read_standard_library(("reference", "docstrings", "source"))
    sample = [b"\n".join(source.documents)[:200_000] for source in sources]
    tokenizer = BPETokenizer.train(sample, vocab_size=1024)
    ids = read_ids(sources, tokenizer, n_bytes=400_000)
    labelled = draw_passages([train for train, _ in ids], n_labelled, text_rng)
    test = draw_passages([held_out for _, held_out in ids], n_test, text_rng)

    config = GPTConfig(vocab_size=tokenizer.vocab_size, **SHAPE)
    pretrained, untrained = GPT(config, rng=np.random.default_rng(seed)), GPT(config, rng=np.random.default_rng(seed))
    if steps:
        print(f"pre-training, {steps} steps on unlabelled text", flush=True)
        windows = RandomWindows(np.concatenate([train for train, _ in ids]), batch_size=32, block_size=32, rng=rng)
        schedule = TrainConfig(max_steps=steps, batch_size=32, learning_rate=2e-3, min_learning_rate=2e-4, **QUIET)
        print(f"  loss {last_loss(train(pretrained, windows, config=schedule, loss_fn=next_token_loss)):.2f}")
    print(f"then {n_labelled} labelled passages, such as")
    for text, label in zip(*(part[:3] for part in labelled), strict=True):
        print(f"  {sources[label].name:<11} {tokenizer.decode(text)!r}")

    truth = np.array(test[1])
    matrix = classify(pretrained, labelled, test, steps=tune_steps, rng=np.random.default_rng(seed))
    from_scratch = classify(untrained, labelled, test, steps=tune_steps, rng=np.random.default_rng(seed))
    found = {
        "always the commonest": float((MajorityBaseline(labelled[1]).predict(test[0]) == truth).mean()),
        "counting words": float((WordCountBaseline(*labelled, vocab_size=1024).predict(test[0]) == truth).mean()),
        "GPT, random weights": float(np.trace(from_scratch) / from_scratch.sum()),
        "GPT, pre-trained": float(np.trace(matrix) / matrix.sum()),
    }
    print(f"\naccuracy on {n_test} passages of other documents")
    for name, accuracy in found.items():
        print(f"  {name:<22}{accuracy:>7.1%}  ±{np.sqrt(accuracy * (1 - accuracy) / n_test):.1%}")
    print("\nthe pre-trained GPT's answers (row: truth)   " + "".join(f"{source.name:>12}" for source in sources))
    for source, row in zip(sources, matrix, strict=True):
        print(f"  {source.name:<42}" + "".join(f"{count:>12}" for count in row))
    lesson.save_figure(draw(found, matrix, [source.name for source in sources], n_test), figure)
    return found


if __name__ == "__main__":
    lesson.run(
        main,
        file=__file__,
        doc=__doc__,
        flags={
            "steps": "steps of pre-training",
            "seed": "of weights and batches; the passages are always the same",
            "tune_steps": "steps on the labelled passages",
            "n_labelled": "labelled passages",
            "n_test": "passages of other documents to be judged by",
        },
        full={"steps": 1000, "tune_steps": 100, "n_labelled": 300},
        full_time="a minute",
        tries=[
            ("--steps 0", "no pre-training, so both GPTs are the same one: 56.2 ± 1.3 %, less than counting words (59.7 %)"),
            ("--steps 100", "59.2 ± 1.3 %, as much as counting words: a hundred steps of reading teach how frequent words are"),
            (
                "--n-labelled 300",
                "with five times the labels 65.7 ± 1.2 %, random weights 60.6 %, words 61.3 %: labels are dear, and reading "
                "still adds five points",
            ),
        ],
    )

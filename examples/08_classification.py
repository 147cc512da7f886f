"""Sorting texts with a language model: what predicting words has taught helps where labels are few.

A passage of 24 tokens is from the language reference, from docstrings, or from source code: which? 300 passages are
labelled, far too few to learn English and Python from. Four answers are compared on the same held-out passages: always the
commonest class; naive Bayes, which counts words and does not see their order; a GPT with a head, from random weights;
and the same GPT after it has learned to predict the next token of unlabelled text. The labels are the same for all of them.

Radford et al. 2018, "Improving language understanding by generative pre-training", section 3.2.

Read next: tinyllm/finetuning/classification.py, tinyllm/models/heads.py.
"""

from __future__ import annotations

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


def main(steps: int = 1000, seed: int = 0, *, n_labelled: int = 300, n_test: int = 1500) -> dict[str, float]:
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
    windows = RandomWindows(np.concatenate([train for train, _ in ids]), batch_size=32, block_size=32, rng=rng)
    schedule = TrainConfig(max_steps=steps, batch_size=32, learning_rate=2e-3, min_learning_rate=2e-4, **QUIET)
    loss = last_loss(train(pretrained, windows, config=schedule, loss_fn=next_token_loss))
    print(f"pre-trained {steps} steps on unlabelled text, loss {loss:.2f}; then {n_labelled} labelled passages, such as")
    for text, label in zip(*(part[:3] for part in labelled), strict=True):
        print(f"  {sources[label].name:<11} {tokenizer.decode(text)!r}")

    truth = np.array(test[1])
    tuning = {"steps": max(1, steps // 10)}
    matrix = classify(pretrained, labelled, test, **tuning, rng=np.random.default_rng(seed))
    from_scratch = classify(untrained, labelled, test, **tuning, rng=np.random.default_rng(seed))
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
    return found


if __name__ == "__main__":
    main()

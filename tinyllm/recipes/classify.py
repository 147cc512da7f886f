"""A classifier: a trained model reads a text to its end, and a head on what it then knows says which class the text is.

    done = classify("runs/mine", [("What a day!", "happy"), ("No.", "sad"), ...], out="runs/moods")
    done.predict(["Thank you so much!"])     -> ["happy"]

Some hundred labelled texts are enough where words alone do not tell (Radford et al. 2018, section 3.2). What the accuracy on
held-out texts is worth shows beside that of who always says the commonest class, and of who counts words.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinyllm.data.split import hold_out
from tinyllm.finetuning import (
    LabelledTexts,
    MajorityBaseline,
    WordCountBaseline,
    classification_loss,
    confusion_matrix,
    labelled_batches,
)
from tinyllm.models import SequenceClassifier, load_model, load_tokenizer_for
from tinyllm.nn import evaluating
from tinyllm.recipes.compile_ahead import ensure_compiled
from tinyllm.recipes.events import Said, Show, silent, watched
from tinyllm.recipes.runs import refuse_used_folder, start_run
from tinyllm.recipes.tuning import TUNING
from tinyllm.tokenizers import Tokenizer
from tinyllm.training import TrainConfig, find_model, train
from tinyllm.training.streams import stream

CLASSIFYING = replace(TUNING, max_steps=100, batch_size=32, min_learning_rate=1e-5, eval_interval=0)
Labelled = tuple[str, str]  # a text and the name of its class


@dataclass(frozen=True)
class Classified:
    """A trained classifier, and how it did on held-out texts. `confusion[i, j]`: texts of class i taken for class j."""

    folder: Path
    model: SequenceClassifier
    tokenizer: Tokenizer
    labels: list[str]
    confusion: np.ndarray
    baselines: dict[str, float]  # accuracies of who knows less

    @property
    def accuracy(self) -> tuple[float, float]:
        """Share of the held-out texts that it sorts right, and its standard error."""
        n = self.confusion.sum()
        share = float(np.trace(self.confusion) / n)
        return share, math.sqrt(share * (1 - share) / n)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The class of each text."""
        ids = [encode(text, self.tokenizer, self.model.config.block_size) for text in texts]
        with evaluating(self.model):
            batches = labelled_batches(ids, [0] * len(ids), batch_size=32)
            scores = [self.model(batch.tokens, batch.attention_mask).data for batch in batches]
        return [self.labels[i] for rows in scores for i in rows.argmax(axis=-1)]


def classify(
    model: str | Path, examples: Sequence[Labelled], *, out: str | Path, training: TrainConfig = CLASSIFYING,
    validation_fraction: float = 0.2, show: Show = silent,
) -> Classified:  # fmt: skip
    """Train a classifier on a copy of the model, from (text, class) pairs; some are held out. `out` gets model/.

    A text longer than the model's context is cut off at its beginning. ValueError for an empty text, and fewer than two classes.
    """
    folder = Path(os.path.expanduser(out))
    refuse_used_folder(folder, resume=False)
    known = find_model(model)
    trunk, tokenizer = load_model(known), load_tokenizer_for(known)
    ensure_compiled(show)
    labels = sorted({label for _, label in examples})
    if len(labels) < 2:
        raise ValueError(f"examples: {len(examples)} texts of {len(labels)} class; expected at least two classes")
    block_size = trunk.config.block_size
    encoded = [(encode(text, tokenizer, block_size), labels.index(label)) for text, label in examples]
    n_held_out = max(1, round(validation_fraction * len(encoded)))
    seen, unseen = hold_out(encoded, n_held_out, seed=training.seed, content=lambda one: tokenizer.decode_bytes(one[0]))
    texts, classes = [list(part) for part in zip(*seen, strict=True)]
    classifier = SequenceClassifier(trunk, len(labels), rng=stream(training.seed, "head of a classifier"))
    rng = stream(training.seed, "order of labelled texts")
    source = LabelledTexts(texts, classes, batch_size=min(training.batch_size, len(texts)), rng=rng)
    with start_run(folder, settings={"training": training}, tokenizer=tokenizer) as run:
        records = train(classifier, source, config=training, loss_fn=classification_loss, run=run)
        watched(records, show, label="classifying", total=training.max_steps)
        classifier.save_pretrained(run.path / "model", tokenizer)
    test, truth = [list(part) for part in zip(*unseen, strict=True)]
    matrix = confusion_matrix(classifier, labelled_batches(test, truth, batch_size=32), n_labels=len(labels))
    baselines = {
        "always the commonest": _accuracy(MajorityBaseline(classes).predict(test), truth),
        "counting words": _accuracy(WordCountBaseline(texts, classes, vocab_size=tokenizer.vocab_size).predict(test), truth),
    }
    done = Classified(folder, classifier, tokenizer, labels, matrix, baselines)
    share, error = done.accuracy
    others = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in baselines.items())
    show(Said(f"Of {len(test)} held-out texts {share:.1%} ± {error:.1%} right ({others})"))
    return done


def encode(text: str, tokenizer: Tokenizer, block_size: int) -> list[int]:
    """The ids of a text, of a long one the last that fit the context. ValueError for an empty one."""
    ids = tokenizer.encode(text)
    if not ids:
        raise ValueError("a text is empty; expected at least one token, since a class is read at the last one")
    return ids[-block_size:]


def _accuracy(predicted: np.ndarray, truth: Sequence[int]) -> float:
    return float((predicted == np.asarray(truth)).mean())

"""A classifier from labelled texts, in one call."""

import numpy as np
import pytest

from tinyllm.models import SequenceClassifier
from tinyllm.recipes.classify import CLASSIFYING, classify
from tinyllm.recipes.events import Said


def examples(n):
    """Texts of the letter a and texts of the letter b."""
    return [("a" * (3 + i % 7) + str(i), "as") if i % 2 else ("b" * (3 + i % 5) + str(i), "bs") for i in range(n)]


def test_it_learns_to_tell_two_classes_apart_and_leaves_a_model(base, tmp_path):
    heard = []
    training = CLASSIFYING.__class__(**{**vars(CLASSIFYING), "max_steps": 60, "learning_rate": 0.01})
    done = classify(base, examples(60), out=tmp_path / "run", training=training, show=heard.append)
    assert done.accuracy[0] == 1.0 and done.confusion.sum() == 12
    assert done.predict(["aaaa", "bbbb"]) == ["as", "bs"]
    saved = SequenceClassifier.from_pretrained(tmp_path / "run" / "model")
    assert np.array_equal(saved.head.weight.data, done.model.head.weight.data)
    assert isinstance(heard[-1], Said) and "held-out texts 100.0%" in heard[-1].text


def test_texts_of_one_class_and_empty_texts_are_refused(base, tmp_path):
    with pytest.raises(ValueError, match="3 texts of 1 class; expected at least two classes"):
        classify(base, [("x", "one")] * 3, out=tmp_path / "run")
    with pytest.raises(ValueError, match="a text is empty"):
        classify(base, [("", "one"), ("y", "two")], out=tmp_path / "run")

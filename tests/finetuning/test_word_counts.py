"""Facts about the baselines: one ignores the text, the other its order."""

import numpy as np
import pytest

from tinyllm.finetuning import MajorityBaseline, WordCountBaseline


def test_the_majority_is_said_whatever_the_text():
    assert MajorityBaseline([0, 2, 2, 1]).predict([[1], [2, 3]]).tolist() == [2, 2]


def test_naive_bayes_worked_by_hand():
    baseline = WordCountBaseline([[0, 0, 1], [2]], [0, 1], vocab_size=3)
    np.testing.assert_allclose(np.exp(baseline.log_token), [[3 / 6, 2 / 6, 1 / 6], [1 / 4, 1 / 4, 2 / 4]])
    np.testing.assert_allclose(np.exp(baseline.log_class), [0.5, 0.5])
    assert baseline.predict([[0, 1], [2, 2], []]).tolist() == [0, 1, 0]


def test_order_means_nothing_to_it():
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 9, 6).tolist() for _ in range(30)]
    baseline = WordCountBaseline(texts, rng.integers(0, 3, 30).tolist(), vocab_size=9)
    assert baseline.predict(texts).tolist() == baseline.predict([text[::-1] for text in texts]).tolist()


def test_a_class_without_a_text_is_never_said():
    assert WordCountBaseline([[0], [1]], [0, 2], vocab_size=2).predict([[0], [1], [0, 1]]).tolist() == [0, 2, 0]


def test_nothing_to_count_is_refused():
    with pytest.raises(ValueError, match="one for each text"):
        WordCountBaseline([], [], vocab_size=3)

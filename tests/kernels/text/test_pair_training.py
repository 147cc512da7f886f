"""Learning merges in machine code gives those of the two lines that define it."""

import random
from collections import Counter

import numpy as np
import pytest

from tinyllm import kernels
from tinyllm.tokenizers.layout import BYTE_ORDER
from tinyllm.tokenizers.pair_training import learn_pairs, learn_pairs_slowly
from tinyllm.tokenizers.word_counts import Words

pytestmark = pytest.mark.skipif(not kernels.machine_code(), reason="the plain form is tested beside its callers")
IDS = np.argsort(BYTE_ORDER).astype(np.int32)


def corpus(seed):
    """Few letters, words of any length, runs: many ties."""
    rng = random.Random(seed)
    letters = "abcdefgh"[: 1 + seed % 6]
    counts = Counter("".join(rng.choices(letters, k=rng.randint(1, 20))).encode() for _ in range(rng.randint(1, 10)))
    return {word: count * rng.randint(1, 3) for word, count in counts.items()}


def by_kernel(symbols, weights, n_merges, least, **how):
    from tinyllm.kernels.text.pair_training import PairLearner

    learner = PairLearner(symbols, weights, n_symbols=256, n_merges=n_merges, least=least)
    return list(map(tuple, learner.learn(n_merges, **how).tolist()))


@pytest.mark.parametrize("by_likelihood", [False, True])
def test_a_thousand_random_corpora(by_likelihood):
    for seed in range(1000):
        symbols, weights = Words.of(corpus(seed)).row(IDS)
        how = {"by_likelihood": by_likelihood}
        least = 1 + seed % 3
        slow = learn_pairs_slowly(symbols, weights, n_symbols=256, n_merges=12, min_frequency=least, **how)
        assert by_kernel(symbols.copy(), weights, 12, least, **how) == slow, seed


def test_merges_learned_in_several_steps_and_with_little_room_are_the_same(monkeypatch):
    from tinyllm.kernels.text import pair_training

    symbols, weights = Words.of({bytes(random.Random(1).choices(range(256), k=3000)): 2, b"abcabcabd": 3}).row(IDS)
    whole = by_kernel(symbols.copy(), weights, 300, 2)
    monkeypatch.setattr(pair_training, "FIRST_ROOM", 16)
    learner = pair_training.PairLearner(symbols.copy(), weights, n_symbols=256, n_merges=300, least=2)
    for n in (1, 2, 100, 300):
        found = learner.learn(n)
    assert list(map(tuple, found.tolist())) == whole == learn_pairs(symbols, weights, n_symbols=256, n_merges=300)
    assert len(whole) > 200


def test_no_words_and_no_pairs():
    for words in ({}, {b"": 3}, {b"a": 5, b"b": 1}):
        symbols, weights = Words.of(words).row(IDS)
        assert by_kernel(symbols, weights, 5, 1) == learn_pairs_slowly(symbols, weights, n_symbols=256, n_merges=5) == []

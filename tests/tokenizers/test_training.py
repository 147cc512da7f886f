"""The trainers of the schemes beside BPE: each against the plain form of its rule, and against the trainer that others use."""

import json
import math
import random
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tinyllm import kernels
from tinyllm.tokenizers import (
    BPETokenizer,
    SentencePieceBPETokenizer,
    UnigramTokenizer,
    WordPieceTokenizer,
    load_tokenizer,
    pair_training,
    unigram,
    word_counts,
)
from tinyllm.tokenizers.normalizers import BERT, UNCHANGED, Bert, Normalizer
from tinyllm.tokenizers.pretokenize import own_pattern
from tinyllm.tokenizers.sentencepiece_train import _classes, cut_words, read_characters
from tinyllm.tokenizers.unigram_train import (
    PlainCorpus,
    best_cut,
    best_scores,
    digamma,
    expected_counts,
    learn_pieces,
    prune,
    seed_pieces,
)
from tinyllm.tokenizers.word_counts import Words, count_words
from tinyllm.tokenizers.wordpiece import _WORD, word_classes
from tinyllm.tokenizers.wordpiece_train import learn_pieces as learn_wordpieces

TRAINED = json.loads((Path(__file__).parents[1] / "fixtures/tokenizers/trained.json").read_text(encoding="utf-8"))
DOCUMENTS = TRAINED["documents"]
PARTS = [
    " ", "  ", "   ", "\n", "a", "Bc", "é", "中", "あ", "ー", "1", "23", "!", "'", "\u0301", "🎉", "\t", "\r", "ñ", "Ⅷ", "〇",
    " \n",
]  # fmt: skip
compiled_only = pytest.mark.skipif(not kernels.machine_code(), reason="two forms are compared, one in machine code")
trainers = pytest.mark.parametrize(
    "train",
    [BPETokenizer.train, SentencePieceBPETokenizer.train, UnigramTokenizer.train, WordPieceTokenizer.train],
    ids=["bpe", "marked", "unigram", "wordpiece"],
)


def row_of(words):
    """Words (tuples of ids) with counts, as learners take them."""
    symbols, weights = [-1], [0]
    for word, count in words:
        symbols += [*word, -1]
        weights += [count] * (len(word) + 1)
    return np.array(symbols, np.int32), np.array(weights, np.int64)


def random_words(seed):
    rng = random.Random(seed)
    n = 1 + seed % 7
    words = Counter(tuple(rng.choices(range(n), k=rng.randint(1, 25))) for _ in range(rng.randint(1, 40)))
    return [(word, count * rng.randint(1, 4)) for word, count in words.items()] + [((i,), 1) for i in range(n)], n


# Words.


@pytest.mark.parametrize("split_digits", [False, True])
def test_a_word_is_one_kind_of_characters_and_the_space_before_it(split_digits):
    text = " don't  go  2 3中文ですyes\n  x "
    words = [" don", "'", "t", " ", " go", " ", " 2", " 3", "中文です", "yes", " ", " x"]
    if split_digits:
        words = [" don", "'", "t", " ", " go", "  ", "2", " ", "3", "中文です", "yes", " ", " x"]
    assert cut_words(text, split_digits=split_digits) == words


@compiled_only
@pytest.mark.parametrize("split_digits", [False, True])
def test_the_kernel_cuts_words_alike(split_digits):
    from tinyllm.kernels.text.counting import MARKED, WordCounter

    rng = random.Random(1)
    texts = ["".join(rng.choices(PARTS, k=rng.randint(0, 20))) for _ in range(1500)]
    counter = WordCounter(MARKED, _classes(split_digits))
    counter.add([text.encode() for text in texts])
    words = Words(*counter.words())
    expected = Counter(word for text in texts for word in cut_words(text, split_digits=split_digits))
    assert dict(zip(words.texts(), words.counts.tolist(), strict=True)) == expected


@compiled_only
def test_the_kernel_counts_berts_words_alike():
    from tinyllm.kernels.text.counting import PLAIN, WordCounter

    rng = random.Random(2)
    texts = [BERT("".join(rng.choices(PARTS, k=rng.randint(0, 20)))) for _ in range(500)]
    counter = WordCounter(PLAIN, word_classes())
    counter.add([text.encode() for text in texts])
    words = Words(*counter.words())
    assert dict(zip(words.texts(), words.counts.tolist(), strict=True)) == Counter(
        w for text in texts for w in _WORD.findall(text)
    )


def test_several_processes_count_what_one_counts(monkeypatch):
    monkeypatch.setattr(word_counts, "AT_ONCE", 100)
    split = own_pattern(r"\w+|\s+").split
    one, several = (count_words(DOCUMENTS * 3, split, processes=n) for n in (1, 2))
    assert dict(zip(one.texts(), one.counts, strict=True)) == dict(zip(several.texts(), several.counts, strict=True))
    assert one.counts.sum() > 1000


def test_the_alphabet_is_the_most_frequent_characters():
    corpus = read_characters(["aab ba\nzzq"], normalizer=UNCHANGED, special_tokens=(), coverage=1)
    assert corpus.alphabet == " abzq"  # 3, 3, 2, 2, 1
    few = read_characters(["aab ba\nzzq"], normalizer=UNCHANGED, special_tokens=(), coverage=0.9)
    assert few.alphabet == corpus.alphabet[:-1]  # 10 of 11
    words = "".join("/" if i < 0 else few.alphabet[i] for i in few.symbols.tolist())
    assert sorted(words.strip("/").replace("//", "/").split("/")) == [" aab", " ba", " zz"]


def test_lines_are_normalized_one_by_one_where_a_step_needs_it():
    bert = Normalizer((Bert(),))  # which makes spaces of line ends
    corpus = read_characters(["Aa\nbb"], normalizer=bert, special_tokens=(), coverage=1)
    assert len(pair_training.words_of(corpus.symbols, corpus.weights)) == 2


def test_words_in_order():
    words = [b"b", b"a", b"aa", b"a" * 40, b"a" * 39 + b"b", b"a" * 39, b"", b"a\0", "\u00e9".encode(), b"a" * 32, b"a" * 33]
    ordered = Words.of({word: i for i, word in enumerate(words)}).ordered()
    found = [(ordered._word(k), int(ordered.counts[k])) for k in range(len(words))]
    assert found == sorted(zip(words, range(len(words)), strict=True))
    assert Words.of({}).ordered().texts() == []


# BPE with marked spaces.


def test_marked_pieces_by_hand():
    """Of low 5, lower 2, newest 6, widest 3, each with its space.

    es 9 (e comes before s), est 9; then at 7 " l" (the space is the second of the alphabet), ow (o comes before " l"), " low";
    then at 6 ew.
    """
    text = "\n".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)
    tokenizer = SentencePieceBPETokenizer.train([text], vocab_size=20, byte_fallback=False, coverage=1)
    assert tokenizer.pieces.texts[:3] == ["<unk>", "<s>", "</s>"]
    assert tokenizer.pieces.texts[9:] == list("e▁wstlondir")  # 17, 16, 16, 9, 9, 7, 7, 6, 3, 3, 2
    assert tokenizer.pieces.texts[3:9] == ["es", "est", "▁l", "ow", "▁low", "ew"]


def test_marked_merges_are_those_of_counting_again(monkeypatch):
    monkeypatch.setattr(pair_training, "LARGE", 0)
    fast = SentencePieceBPETokenizer.train(DOCUMENTS, vocab_size=600)
    monkeypatch.setattr(pair_training, "LARGE", 10**9)
    monkeypatch.setattr(pair_training, "_learn_by_heap", lambda state, n, m, least, progress: slow)
    corpus = read_characters(DOCUMENTS, normalizer=fast.normalizer, special_tokens=("<s>", "</s>"))
    slow = pair_training.learn_pairs_slowly(
        corpus.symbols, corpus.weights, n_symbols=len(corpus.alphabet), n_merges=600 - 259 - len(corpus.alphabet)
    )
    assert SentencePieceBPETokenizer.train(DOCUMENTS, vocab_size=600).fingerprint() == fast.fingerprint()


# Unigram.


@pytest.mark.parametrize(("x", "value"), [(1.0, -0.5772156649015329), (0.5, -1.9635100260214235), (10.0, 2.251752589066721)])
def test_digamma(x, value):
    """-γ; -γ - 2 log 2; H₉ - γ."""
    np.testing.assert_allclose(digamma(np.array([x])), value, rtol=1e-9)


def test_seeds_are_pieces_that_go_on_in_several_ways():
    """In abab abc: ab 3 goes on with a, c and the end; b 3; aba and bab only once; "a" is always ab, but is a character."""
    seeds = seed_pieces([((0, 1, 0, 1), 1), ((0, 1, 2), 1)], 3)
    assert seeds == {(0,): 3, (1,): 3, (2,): 1, (0, 1): 3}
    assert list(seed_pieces([((0, 1, 0, 1), 2), ((0, 1, 2), 1)], 3, n_seeds=4)) == [(0,), (1,), (2,), (0, 1)]


def test_expected_counts_are_those_of_all_cuts():
    words, n = random_words(9)
    words = [(word[:9], count) for word, count in words]
    rng = random.Random(4)
    scores = {piece: -rng.uniform(0.5, 4) for piece in seed_pieces(words, n)}
    counts, likelihood = expected_counts(words, scores)
    true, total = Counter(), 0.0
    for word, count in words:
        cuts = []
        for k in range(len(word)):
            for places in combinations(range(1, len(word)), k):
                ends = [0, *places, len(word)]
                pieces = [word[a:b] for a, b in zip(ends, ends[1:], strict=False)]
                if all(piece in scores for piece in pieces):
                    cuts.append((math.exp(sum(scores[piece] for piece in pieces)), pieces))
        whole = sum(p for p, _ in cuts)
        total += count * math.log(whole)
        for p, pieces in cuts:
            for piece in pieces:
                true[piece] += count * p / whole
        assert best_cut(word, scores)[1] == max(cuts)[1]
    assert likelihood == pytest.approx(total) and counts == pytest.approx(true)


@compiled_only
@pytest.mark.parametrize("seed", range(40))
def test_the_corpus_of_arrays_does_what_the_plain_one_does(seed):
    from tinyllm.tokenizers.unigram_corpus import ArrayCorpus

    words, n = random_words(seed)
    plain, arrays = PlainCorpus(*row_of(words), n, 40), ArrayCorpus(*row_of(words), n, 40)
    assert plain.pieces() == arrays.pieces() and (plain.counts == arrays.counts).all()
    scores, stay = best_scores(plain.counts, plain.lengths)
    for size in (25, 15, 8):
        for corpus in (plain, arrays):
            corpus.keep(stay)
        scores = scores[stay]
        (counts, likelihood), (same, also) = plain.expected(scores), arrays.expected(scores)
        np.testing.assert_allclose(same, counts, rtol=1e-9, atol=1e-12)
        assert likelihood == pytest.approx(also)
        scores, _ = best_scores(counts, plain.lengths)
        stay = plain.pruned(scores, size)
        assert (stay == arrays.pruned(scores, size)).all()


@compiled_only
def test_a_word_longer_than_a_span_is_learned_from_in_parts():
    from tinyllm.kernels.text.unigram_training import LONGEST_SPAN
    from tinyllm.tokenizers.unigram_corpus import ArrayCorpus

    word = tuple(random.Random(3).choices(range(3), k=2 * LONGEST_SPAN + 7))
    corpus = ArrayCorpus(*row_of([(word, 2)]), 3, 500)
    counts, _ = corpus.expected(best_scores(corpus.counts, corpus.lengths)[0])
    assert (counts * corpus.lengths).sum() == pytest.approx(2 * len(word))


def test_what_is_pruned_is_missed_least():
    """ab always stands alone, so its loss is felt; bc is never in a best cut."""
    words = [((0, 1), 50), ((1, 2), 1), ((0,), 1), ((1,), 30), ((2,), 30)]
    scores = {(0,): -2.0, (1,): -1.0, (2,): -1.0, (0, 1): -1.0, (1, 2): -5.0}
    assert prune(words, scores, 4) == {(0,), (1,), (2,), (0, 1)}
    assert prune(words, scores, 5) == {(0,), (1,), (2,), (0, 1)}


def test_each_round_raises_the_likelihood_until_pruning():
    symbols, weights = row_of([(tuple(map(ord, word)), n) for word, n in Counter(" ".join(DOCUMENTS).split()).items()])
    symbols[symbols >= 0] = np.unique(symbols[symbols >= 0], return_inverse=True)[1]
    told = []
    learn_pieces(
        PlainCorpus(symbols, weights, symbols.max() + 1, 10_000), n_characters=symbols.max() + 1, n_pieces=150,
        told=lambda pieces, value: told.append((len(pieces), value)),
    )  # fmt: skip
    assert len(told) >= 8
    same = [(a[1], b[1]) for a, b in zip(told[::2], told[1::2], strict=True)]
    assert all(second > first for first, second in same[1:])
    assert [n for n, _ in told] == sorted((n for n, _ in told), reverse=True)


@pytest.mark.parametrize("plainly", [True, False])
def test_likelihood_reaches_sentencepieces(monkeypatch, plainly):
    monkeypatch.setattr(unigram, "LARGE", 10**9 if plainly else 0)
    theirs = {piece.replace("▁", " "): score for piece, score in TRAINED["unigram"]}
    ours = UnigramTokenizer.train(DOCUMENTS, vocab_size=3 + len(theirs), normalizer=UNCHANGED, byte_fallback=False, coverage=1)
    scores = dict(zip((text.replace("▁", " ") for text in ours.pieces.texts[3:]), ours.scores[3:].tolist(), strict=True))
    assert len(scores) == len(theirs)
    words = [(tuple(f" {word}"), 1) for document in DOCUMENTS for word in document.split()]
    values = [expected_counts(words, {tuple(p): s for p, s in known.items()})[1] for known in (scores, theirs)]
    assert values[0] > 1.001 * values[1]  # both are below zero


# WordPiece.


def test_likelihood_prefers_what_is_seldom_apart():
    """ab 6, cd 3: the more frequent pair is a ##b, but c and ##d never stand apart: 6/(9*9) < 3/(3*3)."""
    documents = ["ab"] * 6 + ["ax"] * 3 + ["xb"] * 3 + ["cd"] * 3
    by_likelihood = WordPieceTokenizer.train(documents, vocab_size=16, special_tokens=["[UNK]"])
    by_frequency = WordPieceTokenizer.train(documents, vocab_size=16, special_tokens=["[UNK]"], rule="frequency")
    pieces = [token.decode() for token in by_likelihood.tokens]
    assert pieces[:9] == ["[UNK]", "a", "b", "c", "d", "x", "##b", "##d", "##x"]
    assert pieces[9] == "cd" and by_frequency.tokens[9] == b"ab"


def test_bpe_with_marks_is_hugging_faces_trainer():
    theirs = TRAINED["wordpiece"]
    words = Words.of(Counter(w.encode() for text in DOCUMENTS for w in _WORD.findall(BERT(text))))
    inside = "".join(piece[2:] for piece in theirs if piece.startswith("##") and len(piece) == 3)
    ours = learn_wordpieces(words, n_pieces=395, prefix="##", by_likelihood=False, min_frequency=2, continuing=inside)
    assert [*TRAINED["wordpiece"][:5], *ours] == theirs and len(theirs) > 300


@pytest.mark.parametrize("rule", ["likelihood", "frequency"])
def test_wordpieces_are_those_of_counting_again(monkeypatch, rule):
    monkeypatch.setattr(pair_training, "LARGE", 0)
    monkeypatch.setattr(pair_training, "MIDDLING", 0)
    fast = WordPieceTokenizer.train(DOCUMENTS, vocab_size=300, rule=rule)
    monkeypatch.setattr(pair_training, "LARGE", 10**9)
    monkeypatch.setattr(pair_training, "MIDDLING", 10**9)
    assert WordPieceTokenizer.train(DOCUMENTS, vocab_size=300, rule=rule).fingerprint() == fast.fingerprint()


# All of them.


@trainers
def test_a_trained_tokenizer_is_written_read_and_used(train, tmp_path):
    tokenizer = train(DOCUMENTS, vocab_size=500)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint() == tokenizer.fingerprint() and again.vocab_size <= 500
    for text in DOCUMENTS[:8]:
        assert again.encode(text) == tokenizer.encode(text)
        if train != WordPieceTokenizer.train:
            assert tokenizer.decode(tokenizer.encode(text)) == tokenizer.normalizer(text)
    assert len(tokenizer.encode(DOCUMENTS[0])) < 0.7 * len(DOCUMENTS[0])


@compiled_only
@trainers
def test_counting_in_machine_code_and_little_memory_changes_nothing(monkeypatch, train):
    plain = train(DOCUMENTS * 20, vocab_size=500)
    for limit in (None, 1 << 24):
        monkeypatch.setattr(word_counts, "LARGE", 0)
        assert train(DOCUMENTS * 20, vocab_size=500, memory_limit=limit).fingerprint() == plain.fingerprint()


@trainers
def test_what_spells_a_special_token_is_not_learned_from(train):
    hostile = ["<unk> <s> </s> <0x41> [UNK] <|endoftext|> ＜s＞"] * 9
    tokenizer = train([*DOCUMENTS, *hostile], vocab_size=500)
    assert len(set(tokenizer.tokens)) == len(tokenizer.tokens)
    for text in hostile:
        assert not set(tokenizer.encode(text)) & set(tokenizer.special_tokens.values()) - {
            getattr(tokenizer, "ids", {}).get("[UNK]")
        }


def test_a_special_token_that_only_normalizing_spells_is_not_learned_from():
    """Fullwidth brackets become [ and ] by NFKC."""
    for train in (SentencePieceBPETokenizer.train, UnigramTokenizer.train):
        tokenizer = train([*DOCUMENTS, *["\uff3bX\uff3d"] * 9], vocab_size=450, special_tokens=["<unk>", "[X]"])
        assert tokenizer.special_tokens == {"<unk>": 0, "[X]": 1} and len(set(tokenizer.tokens)) == len(tokenizer.tokens)


@trainers
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"vocab_size": 10}, "vocab_size: "),
        ({"vocab_size": 500, "memory_limit": 1000}, "memory_limit: got 1,000 bytes, expected at least 16,777,216"),
        ({"vocab_size": 500, "documents": "one text"}, "documents: got one str"),
    ],
)
def test_wrong_settings_are_explained(train, settings, text):
    with pytest.raises(ValueError) as caught:
        train(**{"documents": DOCUMENTS, **settings})
    assert text in str(caught.value)


@trainers
def test_nothing_to_learn_from(train):
    tokenizer = train([], vocab_size=300)
    assert tokenizer.vocab_size <= 300 and tokenizer.decode(tokenizer.encode("")) == ""


def test_smaller_vocabularies_are_prefixes_of_one_training():
    large = BPETokenizer.train(DOCUMENTS, vocab_size=600, special_tokens=["<|a|>", "<|b|>"])
    for size in (258, 300, 500, large.vocab_size):
        small = BPETokenizer.train(DOCUMENTS, vocab_size=size, special_tokens=["<|a|>", "<|b|>"])
        assert large.smaller(size).fingerprint() == small.fingerprint()
    for size in (257, large.vocab_size + 1):
        with pytest.raises(ValueError, match=f"vocab_size: got {size}, expected 258 to {large.vocab_size}"):
            large.smaller(size)

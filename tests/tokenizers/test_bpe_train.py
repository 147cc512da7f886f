import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tinyllm.tokenizers import BPETokenizer, pair_training
from tinyllm.tokenizers.bpe_train import learn_merges, learn_merges_slowly
from tinyllm.tokenizers.layout import from_visible
from tinyllm.tokenizers.pair_training import join_pair
from tinyllm.tokenizers.pretokenize import get_pattern
from tinyllm.tokenizers.word_counts import count_pieces

EXPECTED = json.loads((Path(__file__).parents[1] / "fixtures/tokenizers/expected.json").read_text(encoding="utf-8"))


def test_low_lower_newest_widest():
    """Sennrich et al. 2016 give low x5, lower x2, newest x6, widest x3 (there with an end-of-word mark, here without).

    First counts: es 9, st 9, we 8, lo 7, ow 7, ne 6, ew 6, wi 3, id 3, de 3, er 2.
    9: (e,s) before (s,t), since e comes first; then (es,t) 9. After that lo, ow stand at 7; (l,o) first, then (lo,w) 7;
    ne, ew, w+est stand at 6 each: (e,w) has the smallest ids, then (n,ew), whose left id is a byte, then (new,est) 6.
    At 3 are (d,est), (i,d), (w,i), by left id d first; then (i,dest) and (w,idest). (e,r) 2 comes before (low,er) 2.
    """
    counts = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}
    _, merges = learn_merges(counts, 100)
    joined = [(left + b"|" + right).decode() for left, right in merges]
    assert joined == "e|s es|t l|o lo|w e|w n|ew new|est d|est i|dest w|idest e|r low|er".split()


def test_aaabdaaabac():
    """Wikipedia's example, "aaabdaaabac": aa occurs 4 times, so Z=aa: ZabdZabac.

    Now Za and ab occur twice each; we take the pair with the smaller left id, a byte before a merged token: Y=ab: ZYdZYac.
    Then ZY twice: X=ZY: XdXac. No pair is left that occurs twice.
    """
    tokens, merges = learn_merges({b"aaabdaaabac": 1}, 100)
    assert merges == [(b"a", b"a"), (b"a", b"b"), (b"aa", b"ab")]
    assert tokens[256:] == [b"aa", b"ab", b"aaab"]
    tokenizer = BPETokenizer.train(["aaabdaaabac"], vocab_size=300, special_tokens=())
    x, d, a, c = tokenizer.tokens.index(b"aaab"), *tokenizer.encode("d") + tokenizer.encode("a") + tokenizer.encode("c")
    assert tokenizer.encode("aaabdaaabac") == [x, d, x, a, c]


@pytest.mark.parametrize("seed", range(30))
def test_incremental_counts_equal_recounting(seed):
    """Few letters and long words: many ties and runs of one letter."""
    rng = random.Random(seed)
    letters = "ab" if seed % 2 else "abc"
    counts = Counter("".join(rng.choices(letters, k=rng.randint(1, 14))).encode() for _ in range(25))
    for min_frequency in (1, 2):
        tokens, merges = learn_merges(counts, 40, min_frequency=min_frequency)
        assert (tokens, merges) == learn_merges_slowly(counts, 40, min_frequency=min_frequency)
        assert len(set(tokens)) == len(tokens)  # no two merges lead to the same bytes


@pytest.mark.parametrize("seed", range(10))
def test_one_long_piece_gives_the_merges_of_recounting(seed):
    rng = random.Random(seed)
    counts = {bytes(rng.choices(b"ACGT"[: 1 + seed % 4], k=700)): 3, b"ACGTACG": 2}
    assert learn_merges(counts, 60) == learn_merges_slowly(counts, 60)


def test_the_work_on_a_long_word_without_spaces_grows_as_its_length(monkeypatch):
    """100 kB of DNA took 22 s when each merge rewrote the whole word. Places looked at, not seconds."""
    looked_at = []
    monkeypatch.setattr(pair_training, "sorted", lambda places: (looked_at.append(len(places)), sorted(places))[1], raising=False)
    work = []
    for n in (20_000, 40_000):
        looked_at.clear()
        learn_merges({bytes(random.Random(0).choices(b"ACGT", k=n)): 1}, 500)
        work.append(sum(looked_at))
    assert work[0] < 10 * 20_000 and work[1] < 2.2 * work[0]


@pytest.mark.parametrize("name", ["gpt2", "gpt4"])
def test_merges_equal_hugging_faces(name):
    ours = BPETokenizer.train(EXPECTED["documents"], vocab_size=600, pattern=name)
    theirs = [tuple(map(from_visible, merge)) for merge in EXPECTED[name]["merges"]]
    assert ours.merges == theirs


def test_pairs_of_one_letter_are_joined_from_left_to_right():
    assert join_pair([1, 1, 1, 2, 1, 1], (1, 1), 9) == [9, 1, 2, 9]
    assert join_pair([], (1, 1), 9) == [] and join_pair([1], (1, 1), 9) == [1]


def test_special_tokens_separate_text_and_are_not_counted():
    gpt2 = get_pattern("gpt2")
    counts = count_pieces(["ab<|e|>cd", b"<|e|><|e|>x"], gpt2.split, special_tokens=["<|e|>", "<|e|><|e|>"])
    assert counts == {b"ab": 1, b"cd": 1, b"x": 1}
    assert count_pieces(["<|e|>.d"], gpt2.split, special_tokens=["<|e|>", "<|e|>."]) == {b"d": 1}  # the longest first


def test_broken_bytes_are_learned_as_bytes():
    counts = count_pieces([b"\xff\xfe \xff\xfe"], get_pattern("gpt2").split)
    assert counts == {b"\xff\xfe": 1, b" \xff\xfe": 1}


def test_documents_are_read_once_and_progress_is_told():
    told = []
    BPETokenizer.train((text for text in ["abab abab", "abab"]), vocab_size=262, progress=lambda *p: told.append(p))
    assert told == [("count", 1, None), ("count", 2, None), ("merge", 1, 5), ("merge", 2, 5)]


def test_training_stops_when_no_pair_is_frequent_enough():
    tokenizer = BPETokenizer.train(["ab ab cd"], vocab_size=1000, special_tokens=(), pattern="gpt2")
    assert tokenizer.tokens[256:] == [b"ab"]
    assert BPETokenizer.train([], vocab_size=1000).vocab_size == 257


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"vocab_size": 256}, "vocab_size: got 256, expected at least 257: 256 bytes and 1 special"),
        ({"vocab_size": 300, "min_frequency": 0}, "min_frequency: got 0, expected at least 1"),
        ({"vocab_size": 300, "pattern": "gpt9"}, "pattern: got 'gpt9'"),
        ({"vocab_size": 300, "special_tokens": ["a", "a"]}, "special_tokens: got"),
        ({"vocab_size": 300, "special_tokens": [""]}, "special_tokens: got"),
    ],
)
def test_wrong_settings_are_explained_before_a_document_is_read(settings, text):
    def documents():
        raise AssertionError("read")
        yield

    with pytest.raises(ValueError) as caught:
        BPETokenizer.train(documents(), **settings)
    assert text in str(caught.value)


def test_one_text_is_not_mistaken_for_many_documents():
    with pytest.raises(ValueError, match="documents: got one str"):
        BPETokenizer.train("abc", vocab_size=300)

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.conversations.packing import PackedConversations, PaddedConversations, conversation_batches, pack

BOS, N = 1, 40
both = pytest.mark.parametrize("cls", [PackedConversations, PaddedConversations])


def encoded(n=N, *, longest=20, seed=0):
    """Conversations of 3 to `longest` ids that begin with BOS; conversation i says 100 + i; the last third is the answer."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        length = int(rng.integers(3, longest + 1))
        made.append(([BOS] + [100 + i] * (length - 1), [j >= length - max(length // 3, 1) for j in range(length)]))
    return made


def source(cls=PackedConversations, data=None, seed=0, **sizes):
    sizes = {"batch_size": 4, "block_size": 32} | sizes
    return cls(encoded() if data is None else data, rng=np.random.default_rng(seed), **sizes)


def epoch(one):
    return [one.next_batch() for _ in range(one.batches_per_epoch)]


def same(one, two):
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("tokens", "targets", "loss_mask"))


def test_targets_are_one_step_ahead_and_only_what_the_assistant_says_counts():
    data = [([BOS, 5, 6, 7], [False, False, True, True]), ([BOS, 8, 9], [False, False, True])]
    for one in (source(data=data, block_size=8), source(PaddedConversations, data=data, block_size=8)):
        for batch in epoch(one):
            for tokens, targets, mask in zip(batch.tokens, batch.targets, batch.loss_mask, strict=True):
                assert (targets[:-1] == tokens[1:]).all()
                assert set(targets[mask]) <= {6, 7, 9}
    (batch,) = epoch(source(data=data, block_size=8))  # both in one row
    assert sorted(batch.targets[batch.loss_mask]) == [6, 7, 9] and batch.tokens.shape == (1, 8)
    assert batch.tokens.tolist() == [[BOS, 5, 6, 7, BOS, 8, 9, 0]] and batch.n_counted == 3
    assert batch.tokens.dtype == batch.targets.dtype == np.int64 and batch.loss_mask.dtype == bool


@both
@given(n=st.integers(1, 60), batch_size=st.integers(1, 7), longest=st.integers(3, 33), seed=st.integers(0, 99))
def test_an_epoch_holds_every_counted_target_exactly_once(cls, n, batch_size, longest, seed):
    data = encoded(n, longest=longest, seed=seed)
    one = source(cls, data, seed, batch_size=batch_size)
    expected = Counter(i for ids, mask in data for i, own in zip(ids, mask, strict=True) if own)
    for _ in range(2):
        batches = epoch(one)
        assert Counter(int(i) for b in batches for i in b.targets[b.loss_mask]) == expected
        assert Counter(int(i) for b in batches for i in b.tokens.ravel())[BOS] == n  # each once, answer or not
        assert all(1 <= len(b.tokens) <= batch_size for b in batches)
        if cls is PackedConversations:
            assert max(len(b.tokens) for b in batches) - min(len(b.tokens) for b in batches) <= 1


def test_the_first_id_of_a_conversation_is_never_a_target_that_counts():
    data = [([7, 8], [True, True]), ([9, 10], [True, True])]
    (batch,) = epoch(source(data=data, block_size=8))
    assert sorted(batch.targets[batch.loss_mask]) == [8, 10]


@both
def test_padding_is_on_the_right_and_never_counts(cls):
    for batch in epoch(source(cls)):
        n_real = (batch.targets != 0).sum(axis=1)
        for targets, mask, n in zip(batch.targets, batch.loss_mask, n_real, strict=True):
            assert (targets[n:] == 0).all() and (targets[:n] != 0).all() and not mask[n:].any()
    trimmed = [batch.tokens.shape[1] for batch in epoch(source(PaddedConversations))]
    assert max(trimmed) <= 19 and len(set(trimmed)) > 2  # not block_size, and rows of like length together


@both
def test_each_epoch_has_another_order_and_a_seed_repeats_it(cls):
    one, two = source(cls), source(cls)
    first, second = epoch(one), epoch(one)
    assert not all(same(a, b) for a, b in zip(first, second, strict=False))
    for batch in [*first, *second]:
        assert same(batch, two.next_batch())
    assert not same(first[0], source(cls, seed=1).next_batch())


@both
def test_long_and_short_conversations_come_in_no_order(cls):
    one = source(cls, encoded(200))
    lengths = [[int((b.targets != 0).sum() / (b.tokens == BOS).sum()) for b in epoch(one)] for _ in range(2)]  # mean of a batch
    for values in lengths:
        steps = np.sign(np.diff(values))
        assert (steps > 0).sum() >= 3 and (steps < 0).sum() >= 3


@both
@given(before=st.integers(0, 25), seed=st.integers(0, 50))
def test_a_restored_source_goes_on_as_if_it_had_never_stopped(cls, before, seed):
    one = source(cls, seed=seed)
    for _ in range(before):
        one.next_batch()
    state = json.loads(json.dumps(one.state()))
    other = source(cls, seed=99)
    for _ in range(seed % 3):
        other.next_batch()
    other.restore(state)
    assert other.state() == one.state() == state
    for _ in range(15):
        assert same(one.next_batch(), other.next_batch())
    assert other.state() == one.state()


@both
def test_taking_a_state_changes_nothing_and_epochs_end_anywhere(cls):
    one, two = source(cls), source(cls)
    for _ in range(30):
        one.state()
        assert same(one.next_batch(), two.next_batch())


@both
def test_a_state_of_other_data_or_settings_is_refused(cls):
    state = source(cls).state()
    for other, name in [
        (source(cls, encoded(seed=1)), "crc32"), (source(cls, encoded(39)), "n"),
        (source(cls, batch_size=3), "batch_size"), (source(cls, block_size=33), "block_size"),
        (source(PaddedConversations if cls is PackedConversations else PackedConversations), "kind"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"state was taken with {name} .*resume with the same data"):
            other.restore(state)
    masks = [(ids, [False, *([True] * (len(ids) - 1))]) for ids, _ in encoded()]
    with pytest.raises(ValueError, match="state was taken with crc32"):
        source(cls, masks).restore(state)


@both
def test_what_does_not_fit_or_does_not_count_is_skipped_and_said(cls):
    fits, too_long, silent = [BOS] * 33, [BOS] * 34, [BOS] * 5
    data = [(ids, [False] + [ids is not silent] * (len(ids) - 1)) for ids in (fits, too_long, silent, too_long)]
    one = source(cls, data)
    assert one.n_skipped == 3
    assert one.skipped == ("3 of 4 conversations skipped: 2 longer than block_size 32, 1 without an answer of the assistant")
    assert sum(batch.n_counted for batch in epoch(one)) == 32
    assert source(cls).n_skipped == 0 and source(cls).skipped == ""
    with pytest.raises(ValueError, match="encoded: nothing to learn from; 2 of 2 conversations skipped: 2 longer than"):
        source(cls, [data[1]] * 2)
    with pytest.raises(ValueError, match="encoded: nothing to learn from; there are no conversations"):
        source(cls, [])


@both
def test_broken_input_is_explained(cls):
    for broken, complaint in [
        (([1, 2], [True]), r"encoded\[1\]: expected ids and a bool mask of one length, got shapes \(2,\) and \(1,\)"),
        (([1, 2], [0, 1]), r"encoded\[1\]: expected ids and a bool mask .* mask of int64"),
        (([1.5, 2], [False, True]), r"encoded\[1\]: expected whole numbers as ids, got float64"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            source(cls, [encoded(1)[0], broken])
    with pytest.raises(ValueError, match="batch_size and block_size must be at least 1, got 0 and 32"):
        source(cls, batch_size=0)


@given(lengths=st.lists(st.integers(1, 30), max_size=60), capacity=st.integers(30, 50))
def test_packing_loses_nothing_overfills_nothing_and_wastes_little(lengths, capacity):
    rows = pack(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    loads = [sum(lengths[i] for i in row) for row in rows]
    assert all(load <= capacity for load in loads)
    assert len(rows) <= 11 / 9 * -(-sum(lengths) // capacity) + 1 + sum(2 * n > capacity for n in lengths)
    assert sum(2 * load <= capacity for load in loads) <= 1  # two half-empty rows would have been one


def test_each_text_goes_where_the_least_room_is():
    assert pack([6, 5, 4, 3, 2], 10) == [[0, 2], [1, 3, 4]]
    assert pack([5, 7, 2], 10) == [[1, 2], [0]]  # 2 goes to the row with room 3, not to the one with room 5
    assert pack([], 10) == []
    with pytest.raises(ValueError, match="lengths: got 11, expected at most the capacity, 10"):
        pack([3, 11], 10)


def test_packed_rows_are_nearly_full():
    one = source(data=encoded(400), block_size=64)
    batches = epoch(one)
    assert np.mean([(b.targets != 0).mean() for b in batches]) > 0.97


def test_evaluation_batches_are_the_same_every_time_and_complete():
    first, second = (conversation_batches(encoded(), batch_size=6, block_size=32) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, second, strict=True)) and len(first) == 7
    assert sum(b.n_counted for b in first) == sum(sum(mask) for _, mask in encoded())

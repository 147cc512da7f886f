from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinyllm.data.split import hold_out, split_documents, split_sources, split_tail
from tinyllm.data.text.documents import canonical

documents = st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([b"a", b"b", b"A\r\n", b"c"]), min_size=2, max_size=40)
fractions = st.floats(0.01, 0.9)


def contents(documents):
    return {canonical(document) for document in documents}


@pytest.mark.parametrize("split", [split_sources, split_tail])
@given(sources=st.dictionaries(st.sampled_from("xyz"), documents, min_size=1), fraction=fractions)
def test_training_and_validation_never_share_a_document_in_any_source(split, sources, fraction):
    try:
        training, validation = split(sources, fraction)
    except ValueError as error:  # a source of one content, or all of it stands in the others
        assert "add text" in str(error) or "nothing would be left" in str(error)
        return
    every = [contents(documents for part in side.values() for documents in part) for side in (training, validation)]
    assert not every[0] & every[1]
    for name, given_documents in sources.items():
        assert training[name] and validation[name]
        assert contents(training[name]) | contents(validation[name]) <= contents(given_documents)
        if split is split_sources:
            assert sorted(training[name] + validation[name]) == sorted(given_documents)


@given(documents=documents, fraction=fractions)
def test_the_split_keeps_every_copy_and_depends_on_content_alone(documents, fraction):
    assume(len(contents(documents)) > 1)
    training, validation = split_documents(documents, fraction)
    assert sorted(training + validation) == sorted(documents)
    backwards = split_documents(documents[::-1], fraction)
    assert (sorted(training), sorted(validation)) == (sorted(backwards[0]), sorted(backwards[1]))


def test_validation_takes_about_its_share_of_the_bytes():
    documents = [b"%d " % i * (10 + i % 50) for i in range(2000)]
    _, validation = split_documents(documents, 0.1)
    assert 0.09 < sum(map(len, validation)) / sum(map(len, documents)) <= 0.1


def test_copies_count_in_the_share():
    documents = [b"%04d" % (i // 20) for i in range(2000)]  # twenty copies of each
    _, validation = split_documents(documents, 0.1)
    assert 0.09 * 2000 <= len(validation) <= 0.1 * 2000


def test_a_document_larger_than_the_share_is_not_held_out():
    documents = [b"x" * 10_000] + [b"%04d" % i for i in range(100)]
    _, validation = split_documents(documents, 0.1)
    assert documents[0] not in validation and validation


def test_few_large_documents_still_give_one_to_hold_out():
    assert split_documents([b"a" * 50, b"b" * 30, b"c" * 60], 0.1)[1] == (b"b" * 30,)


def test_adding_documents_moves_few_across():
    documents = [b"document %d" % i for i in range(1000)]
    before = set(split_documents(documents, 0.2)[1])
    after = set(split_documents([*documents, *(b"new document %d" % i for i in range(100))], 0.2)[1])
    assert len(before - after) < 0.15 * len(before)


def test_the_tail_is_the_end():
    documents = [b"%03d" % i for i in range(100)]
    training, validation = split_tail({"s": documents}, 0.1)
    assert validation["s"] == tuple(documents[90:]) and training["s"] == tuple(documents[:90])


def test_a_copy_of_a_held_out_document_leaves_training():
    assert split_tail({"s": [b"a", b"b", b"c", b"b"]}, 0.2) == ({"s": (b"a", b"c")}, {"s": (b"b",)})
    training, _ = split_tail({"s": [b"a", b"b"], "t": [b"B ", b"c", b"d"]}, 0.2)
    assert training == {"s": (b"a",), "t": (b"c",)}


@pytest.mark.parametrize("split", [split_sources, split_tail])
def test_what_cannot_be_split_is_refused(split):
    with pytest.raises(ValueError, match="source 's': documents must hold at least 2 different ones to hold some out, got 1"):
        split({"s": [b"a", b"a"]})
    with pytest.raises(ValueError, match="fraction must be between 0 and 1 .*, got 1"):
        split({"s": [b"a", b"b"]}, 1)


def test_documents_that_stand_in_two_sources_are_on_one_side():
    shared = [b"shared document %d" % i for i in range(100)]
    sources = {"a": shared, "b": [*(b"own document %d" % i for i in range(300)), *(text + b"\r\n" for text in shared)]}
    training, validation = split_sources(sources, 0.1)
    assert not contents(validation["a"]) & contents(training["b"]) and not contents(validation["b"]) & contents(training["a"])
    for name, documents in sources.items():
        assert 0.05 * len(documents) < len(validation[name]) <= 0.1 * len(documents)


def test_sources_without_a_common_document_are_split_as_if_each_stood_alone():
    sources = {name: [b"%s %d" % (name.encode(), i) * (1 + i % 7) for i in range(200)] for name in ("a", "b")}
    together = split_sources(sources, 0.1)
    for name, documents in sources.items():
        assert (together[0][name], together[1][name]) == split_documents(documents, 0.1)


def test_no_source_is_emptied_for_another_one():
    sources = {"a": [b"x", b"y"], "b": [b"x", b"z"], "c": [b"y", b"w"]}
    training, validation = split_sources(sources, 0.5)
    assert all(training.values()) and all(validation.values())
    with pytest.raises(ValueError, match="source '.': its documents stand in other sources too"):
        split_sources({"a": [b"x", b"y"], "b": [b"y", b"z"], "c": [b"z", b"x"]}, 0.5)


@given(items=st.lists(st.text("ab c\n", min_size=1, max_size=4), max_size=40), n=st.integers(1, 9), seed=st.integers(0, 5))
def test_items_are_held_out_by_content(items, n, seed):
    def text(item):
        return item.encode() + b"."  # an end, or all that begins alike would be one

    counts = Counter(canonical(text(item)) for item in items)
    if len(counts) < 2:
        with pytest.raises(ValueError, match="at least two different ones are needed"):
            hold_out(items, n, seed=seed, content=text)
        return
    rest, held_out = hold_out(items, n, seed=seed, content=text)
    assert rest and held_out and sorted(rest + held_out) == sorted(items)
    assert not contents(map(text, rest)) & contents(map(text, held_out))
    assert len(held_out) <= max(n, min(counts.values()))


def test_what_is_held_out_is_drawn_from_the_whole_file_and_follows_from_the_seed():
    def drawn(seed):
        return hold_out(range(100), 20, seed=seed, content=lambda i: b"%d." % i)

    rest, held_out = drawn(3)
    assert sorted(rest + held_out) == list(range(100)) and len(held_out) == 20
    assert max(held_out) > 60 and min(held_out) < 40  # a sorted file is represented from end to end
    assert drawn(3) == (rest, held_out) != drawn(4)


def test_a_conversation_saved_after_each_of_its_turns_is_one_conversation():
    talks = [b"hi %d." % i + b"turn." * n for i in range(10) for n in range(3)]
    for seed in range(5):
        rest, held_out = hold_out(talks, 6, seed=seed, content=bytes)
        assert len(held_out) == 6 and not {text[:5] for text in rest} & {text[:5] for text in held_out}

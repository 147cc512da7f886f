import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinyllm.data.split import split_documents, split_tail

documents = st.lists(st.binary(min_size=1, max_size=40), min_size=2, max_size=60)
fractions = st.floats(0.01, 0.9)


@pytest.mark.parametrize("split", [split_documents, split_tail])
@given(documents=documents, fraction=fractions)
def test_training_and_validation_never_share_a_document(split, documents, fraction):
    assume(len(set(documents)) > 1 and not (split is split_tail and len(set(documents[:-1])) == 1))
    assume(split is split_documents or set(documents[: len(documents) // 2]) - set(documents[len(documents) // 2 :]))
    try:
        training, validation = split(documents, fraction)
    except ValueError:
        assert split is split_tail  # the tail repeats all that comes before
        return
    assert training and validation and not set(training) & set(validation)
    assert set(training) | set(validation) == set(documents)


@given(documents=documents, fraction=fractions)
def test_the_split_keeps_every_copy_and_depends_on_content_alone(documents, fraction):
    assume(len(set(documents)) > 1)
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
    training, validation = split_tail(documents, 0.1)
    assert validation == tuple(documents[90:]) and training == tuple(documents[:90])


def test_a_copy_of_a_held_out_document_leaves_training():
    assert split_tail([b"a", b"b", b"c", b"b"], 0.2) == ((b"a", b"c"), (b"b",))


@pytest.mark.parametrize("split", [split_documents, split_tail])
def test_what_cannot_be_split_is_refused(split):
    with pytest.raises(ValueError, match="at least 2 different ones to hold some out, got 1"):
        split([b"a", b"a"])
    with pytest.raises(ValueError, match="fraction must be between 0 and 1 .*, got 1"):
        split([b"a", b"b"], 1)

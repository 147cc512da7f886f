"""Facts about classification: the label is learned from the last real token, in batches that can be resumed."""

import numpy as np
import pytest

from tinyllm.finetuning import LabelledTexts, classification_loss, confusion_matrix, labelled_batches
from tinyllm.models import GPT, GPTConfig, SequenceClassifier
from tinyllm.optim import AdamW


def rng(seed=0):
    return np.random.default_rng(seed)


def small_model(n_labels=3):
    config = GPTConfig(vocab_size=9, block_size=8, n_layers=1, n_heads=2, d_model=16, init_std=0.2)
    return SequenceClassifier(GPT(config, rng=rng()), n_labels, rng=rng(1))


TEXTS = [[1, 2], [3], [4, 5, 6], [7, 8, 1, 2, 3], [2, 2]]
LABELS = [0, 1, 2, 1, 0]


def source(seed=0, **changes):
    return LabelledTexts(TEXTS, LABELS, **{"batch_size": 2, "rng": rng(seed), **changes})


def content(batch):
    return [
        (row[real].tolist(), int(label))
        for row, real, label in zip(batch.tokens, batch.attention_mask, batch.labels, strict=True)
    ]


def test_an_epoch_holds_every_text_once_with_its_label():
    one = source()
    batches = [content(one.next_batch()) for _ in range(6)]
    expected = sorted(zip(TEXTS, LABELS, strict=True))
    for epoch in (batches[:3], batches[3:]):
        assert [len(batch) for batch in epoch] == [2, 2, 1]
        assert sorted(pair for batch in epoch for pair in batch) == expected
    assert batches[:3] != batches[3:]


@pytest.mark.parametrize("n_before", [0, 1, 2, 3, 4, 7])
def test_a_source_goes_on_where_it_was(n_before):
    one, other = source(), source(seed=5)
    for _ in range(n_before):
        one.next_batch()
    other.restore(one.state())
    assert [content(one.next_batch()) for _ in range(7)] == [content(other.next_batch()) for _ in range(7)]


def test_other_texts_or_labels_are_refused():
    state = source().state()
    with pytest.raises(ValueError, match="crc32"):
        LabelledTexts(TEXTS, LABELS[::-1][:4] + [1], batch_size=2, rng=rng()).restore(state)
    with pytest.raises(ValueError, match="batch_size"):
        source(batch_size=3).restore(state)


def test_padding_changes_no_score():
    model = small_model()
    together, alone = labelled_batches(TEXTS, LABELS, batch_size=5), labelled_batches(TEXTS, LABELS, batch_size=1)
    scores = model(together[0].tokens, together[0].attention_mask).data
    np.testing.assert_allclose(scores, np.concatenate([model(b.tokens, b.attention_mask).data for b in alone]), atol=1e-5)


def test_micro_batches_add_up_to_the_loss_of_all():
    model = small_model()
    (whole,) = labelled_batches(TEXTS, LABELS, batch_size=5)
    parts = labelled_batches(TEXTS, LABELS, batch_size=2)
    total = sum(classification_loss(model, part, n_counted=5).item() for part in parts)
    assert abs(total - classification_loss(model, whole).item()) < 1e-6


def test_a_classifier_learns_its_texts():
    model, one = small_model(), source(batch_size=5)
    optimizer = AdamW(model.parameters(), lr=0.01)
    for _ in range(40):
        model.zero_grad()
        classification_loss(model, one.next_batch()).backward()
        optimizer.step()
    counts = confusion_matrix(model, labelled_batches(TEXTS, LABELS, batch_size=2), n_labels=3)
    assert counts.tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [([[1], []], [0, 1], r"texts\[1\] is empty"), ([[1]], [0, 1], "one for each text"), ([], [], "one for each text"),
     ([[1]], [-1], "counted from 0")],
)  # fmt: skip
def test_what_cannot_be_learned_is_refused(texts, labels, message):
    with pytest.raises(ValueError, match=message):
        labelled_batches(texts, labels, batch_size=2)

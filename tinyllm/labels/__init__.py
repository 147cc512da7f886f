"""What people say of a model's answers: shown, kept, compared, and turned into pairs.

items.py      what a labeler is shown           store.py              labels on the disk
pairs.py      ratings to pairs                  simulated_labeler.py  one whose preferences are known
agreement.py  do labelers agree (kappa)         news_items.py         the small news, to be rated by it
"""

from tinyllm.labels.agreement import Agreement, agreement_between, cohen_kappa, labelers, self_agreement
from tinyllm.labels.items import Item, read_items, write_items
from tinyllm.labels.pairs import pairs_from_labels
from tinyllm.labels.simulated_labeler import SimulatedLabeler, expected_pair_accuracy, expected_rating_accuracy
from tinyllm.labels.store import Label, LabelFile, LabelStore, read_labels

__all__ = [
    "Agreement", "Item", "Label", "LabelFile", "LabelStore", "SimulatedLabeler", "agreement_between", "cohen_kappa",
    "expected_pair_accuracy", "expected_rating_accuracy", "labelers", "pairs_from_labels", "read_items", "read_labels",
    "self_agreement", "write_items",
]  # fmt: skip

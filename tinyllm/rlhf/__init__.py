"""Learning from preferences: from a person's ratings to a policy that is rated higher.

label_items.py  a prompt and its answers      labels.py             labels on the disk, safe before acknowledged
label_pairs.py  ratings to pairs              simulated_labeler.py  a labeler whose taste is known
agreement.py    Cohen's kappa
"""

from tinyllm.rlhf.agreement import Agreement, agreement_between, cohen_kappa, labelers, self_agreement
from tinyllm.rlhf.label_items import Item, read_items, write_items
from tinyllm.rlhf.labels import Label, LabelFile, LabelStore, read_labels
from tinyllm.rlhf.simulated_labeler import SimulatedLabeler, expected_pair_accuracy, expected_rating_accuracy

__all__ = [
    "Agreement",
    "Item",
    "Label",
    "LabelFile",
    "LabelStore",
    "SimulatedLabeler",
    "agreement_between",
    "cohen_kappa",
    "expected_pair_accuracy",
    "expected_rating_accuracy",
    "labelers",
    "read_items",
    "read_labels",
    "self_agreement",
    "write_items",
]

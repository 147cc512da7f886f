"""Fine-tuning: from a model that continues text to one that answers, or that sorts texts into classes.

instruction.py      the loss on the assistant's words only        classification.py   a head on the last token, and its baselines
"""

from tinyllm.finetuning.classification import (
    LabelledBatch,
    LabelledTexts,
    classification_loss,
    confusion_matrix,
    labelled_batches,
)
from tinyllm.finetuning.instruction import answer_loss, encode_instructions
from tinyllm.finetuning.word_counts import MajorityBaseline, WordCountBaseline

__all__ = [
    "LabelledBatch", "LabelledTexts", "MajorityBaseline", "WordCountBaseline", "answer_loss", "classification_loss",
    "confusion_matrix", "encode_instructions", "labelled_batches",
]  # fmt: skip

"""Models: whole architectures on a page each, and how they are saved and loaded."""

from tinyllm.models.adapters import load_adapters, save_adapters
from tinyllm.models.gpt import GPT, GPTConfig
from tinyllm.models.heads import RewardModel, ScalarHead, SequenceClassifier, ValueModel
from tinyllm.models.pretrained import load_tokenizer_for
from tinyllm.models.registry import MODELS, load_model
from tinyllm.models.vocabulary import extend_vocabulary

__all__ = [
    "GPT", "GPTConfig", "MODELS", "RewardModel", "ScalarHead", "SequenceClassifier", "ValueModel", "extend_vocabulary",
    "load_adapters", "load_model", "load_tokenizer_for", "save_adapters",
]  # fmt: skip

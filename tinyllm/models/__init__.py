"""Models: whole architectures on a page each, and how they are saved and loaded."""

from tinyllm.models.adapters import load_adapters, save_adapters
from tinyllm.models.gpt import GPT, GPTConfig
from tinyllm.models.heads import RewardModel, ScalarHead, SequenceClassifier, ValueModel
from tinyllm.models.llama import Llama, LlamaConfig
from tinyllm.models.pretrained import load_tokenizer_for
from tinyllm.models.registry import ARCHITECTURES, MODELS, Model, ModelConfig, architecture_of, load_model, make_model
from tinyllm.models.vocabulary import extend_vocabulary

__all__ = [
    "ARCHITECTURES", "GPT", "GPTConfig", "Llama", "LlamaConfig", "MODELS", "Model", "ModelConfig", "RewardModel",
    "ScalarHead", "SequenceClassifier", "ValueModel", "architecture_of", "extend_vocabulary", "load_adapters", "load_model",
    "load_tokenizer_for", "make_model", "save_adapters",
]  # fmt: skip

"""Models: whole architectures on a page each, and how they are saved and loaded."""

from tinyllm.models.gpt import GPT, GPTConfig
from tinyllm.models.pretrained import load_tokenizer_for

__all__ = ["GPT", "GPTConfig", "load_tokenizer_for"]

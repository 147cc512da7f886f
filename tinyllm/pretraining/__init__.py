"""What a model is asked to guess while it learns from plain text. So far: the next token."""

from tinyllm.pretraining.causal_lm import next_token_loss

__all__ = ["next_token_loss"]

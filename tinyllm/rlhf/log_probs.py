"""How likely a policy finds an answer, token by token: what every method here is made of.

    log π(y | x) = Σ_t log π(y_t | x, y_<t)          π(· | context) = softmax(logits / temperature)

The hidden state at the token *before* y_t predicts it: one column further left, the only shift there is. Two rules decide
whether training works. The temperature is that of sampling: a policy that sampled at 0.7 and is scored at 1 seems to have
moved before it has learned anything. And nothing filters the logits: an answer drawn from the top 50 tokens is not an answer
drawn from π. Prompts are padded on the left, so positions and attention go by the attention mask.
"""

from typing import Any

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor, no_grad
from tinyllm.models.contract import LanguageModel, Policy
from tinyllm.nn.lora import lora_disabled
from tinyllm.rlhf.sequences import Sequences


def response_hidden(policy: Policy, sequences: Sequences) -> Tensor:
    """The last layer's output where each answer token is predicted, (B, R, C)."""
    first = sequences.n_prompt - 1
    return policy.hidden(sequences.tokens[:, :-1], attention_mask=sequences.attention_mask[:, :-1], read_from=first)[:, first:]


def response_logits(policy: Policy, sequences: Sequences, *, temperature: float = 1.0) -> Tensor:
    """Logits for each answer token, divided by the temperature, (B, R, V)."""
    logits = policy.logits(response_hidden(policy, sequences))
    return logits if temperature == 1 else logits / temperature


def response_log_probs(policy: Policy, sequences: Sequences, *, temperature: float = 1.0) -> Tensor:
    """log π of each answer token, (B, R), in nats; where `response_mask` is False the number means nothing."""
    return ops.token_log_probs(response_logits(policy, sequences, temperature=temperature), sequences.responses)


def sequence_log_probs(policy: Policy, sequences: Sequences) -> Tensor:
    """log π of each whole answer, (B,): the sum over its tokens, the stop token included."""
    log_probs = response_log_probs(policy, sequences)
    return ops.sum(log_probs * sequences.response_mask.astype(log_probs.dtype), axis=1)


def frozen_log_probs(policy: Policy, sequences: Sequences, *, temperature: float = 1.0, batch_size: int = 64) -> np.ndarray:
    """`response_log_probs` as an array (B, R) without gradients, `batch_size` rows at a time; 0 where nothing is real."""
    parts = []
    with no_grad():
        for first in range(0, len(sequences), batch_size):
            rows = slice(first, first + batch_size)
            part = Sequences(sequences.tokens[rows], sequences.attention_mask[rows], sequences.n_prompt)
            parts.append(response_log_probs(policy, part, temperature=temperature).data)
    return np.concatenate(parts) * sequences.response_mask


class WithoutAdapters:
    """A LoRA policy with its adapters off: the reference it began as, without a second copy of the weights."""

    def __init__(self, policy: LanguageModel):
        self.policy, self.config = policy, policy.config

    def hidden(self, tokens: np.ndarray, **settings: Any) -> Tensor:
        """As the policy's own."""
        with lora_disabled(self.policy):
            return self.policy.hidden(tokens, **settings)

    def logits(self, hidden: Tensor) -> Tensor:
        """As the policy's own."""
        with lora_disabled(self.policy):
            return self.policy.logits(hidden)

"""A policy and the value model that tells it what to expect.

    V(x, y_<t) ≈ E[ reward still to come | prompt and the answer so far ]

Two ways to make one. Separate: a second transformer, begun from the reward model or the policy, which costs its own forward and
backward but cannot disturb the policy. Shared: one more output on the policy's own last layer, nearly free, but the value loss
pulls at the weights that write. InstructGPT took the first (Ouyang et al. 2022, section 3.5), Ziegler et al. 2019 the second.
"""

import numpy as np

from tinyllm.autograd import Tensor, no_grad
from tinyllm.models import ScalarHead, ValueModel
from tinyllm.models.contract import LanguageModel
from tinyllm.nn import Module
from tinyllm.rlhf.log_probs import response_hidden
from tinyllm.rlhf.sequences import Sequences


class ActorCritic(Module):
    """policy: a GPT. critic: a ValueModel with a trunk of its own, or a ScalarHead on the policy's last layer."""

    def __init__(self, policy: LanguageModel, critic: ValueModel | ScalarHead):
        self.policy, self.critic = policy, critic

    def logits_and_values(self, sequences: Sequences, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Logits (B, R, V), over the temperature, and values (B, R), both where each answer token is predicted."""
        hidden = response_hidden(self.policy, sequences)
        logits = self.policy.logits(hidden)
        return (logits if temperature == 1 else logits / temperature), self._values(sequences, hidden)

    def frozen_values(self, sequences: Sequences, *, batch_size: int) -> np.ndarray:
        """Values (B, R) without gradients; 0 where there is no answer token."""
        parts = []
        with no_grad():
            for first in range(0, len(sequences), batch_size):
                rows = slice(first, first + batch_size)
                part = Sequences(sequences.tokens[rows], sequences.attention_mask[rows], sequences.n_prompt)
                parts.append(self._values(part).data)
        return np.concatenate(parts) * sequences.response_mask

    def _values(self, sequences: Sequences, hidden: Tensor | None = None) -> Tensor:
        if isinstance(self.critic, ScalarHead):
            return self.critic(response_hidden(self.policy, sequences) if hidden is None else hidden)
        first = sequences.n_prompt - 1
        return self.critic(sequences.tokens[:, :-1], sequences.attention_mask[:, :-1], read_from=first)[:, first:]

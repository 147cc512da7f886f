"""Causal language modelling: at every position, guess the next token from those before it.

    loss = -1/n Σ_t log p(x_{t+1} | x_1 .. x_t)        (Radford et al. 2018, GPT, eq. 1, as a mean in nats)

One pass gives T lessons for a window of T tokens, because the causal mask keeps each position from seeing its answer.
The questions (`next_tokens`, which the sources of windows ask unless told otherwise): targets[t] = tokens[t + 1].
"""

from tinyllm.autograd import Tensor
from tinyllm.data import Batch
from tinyllm.data.text.windows import next_tokens
from tinyllm.models.contract import LanguageModel

__all__ = ["next_token_loss", "next_tokens"]


def next_token_loss(model: LanguageModel, batch: Batch, *, n_counted: int | None = None) -> Tensor:
    """Mean -log p(target) over the counted targets of `batch`, a scalar in nats.

    n_counted  what the sum is divided by; gradient accumulation gives the number counted in all its micro-batches, so that
               their losses add up to the loss of one large batch
    """
    return model.loss(batch.tokens, batch.targets, loss_mask=batch.loss_mask, n_counted=n_counted or batch.n_counted)

"""Instruction tuning: the same next-token loss as in pre-training, but only where the assistant speaks.

    loss = -1/n Σ over the assistant's tokens of log p(token | all before)        n = such tokens in the whole step

The question is read but not learned: a model trained on it as well would learn to ask, and the many tokens of questions would
outweigh the few of answers (Ouyang et al. 2022, InstructGPT, appendix C; loss on completions only). <|end|> is an answer's
last token and counts; without it a model never stops. n is the number over all micro-batches of a step, for each token to
weigh the same: a mean per conversation would give the one token of "7" the weight of a whole summary, and a mean
per micro-batch would make the result depend on how a step is cut.
"""

from collections.abc import Iterable

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.data import Batch
from tinyllm.data.tasks.instructions import Instruction
from tinyllm.models.contract import LanguageModel
from tinyllm.tokenizers.chat_templates import Chat


def answer_loss(model: LanguageModel, batch: Batch, *, n_counted: int | None = None) -> Tensor:
    """Sum of -log p over the targets where batch.loss_mask is True, divided by `n_counted` (their number), in nats.

    model: `hidden(tokens (B, T), attention_mask=, read_from=)` -> (B, T, C) and `logits` (N, C) -> (N, V), as GPT has. Only one
    target in three or so counts, so only those positions go through the last and widest layer, and padding goes through none.
    ValueError if the batch has no loss mask: then it is text, and `pretraining.next_token_loss` is meant.
    """
    if batch.loss_mask is None:
        raise ValueError("batch has no loss mask that says which tokens are the assistant's; for plain text use next_token_loss")
    if not batch.loss_mask.any() and n_counted is None:
        raise ValueError("batch has no token of an assistant: its loss mask is False everywhere; check how it was encoded")
    needed = np.logical_or.accumulate(batch.loss_mask[:, ::-1], axis=1)[:, ::-1]  # nothing after the last token that counts
    hidden = model.hidden(batch.tokens, attention_mask=needed, read_from=batch.loss_mask.argmax(axis=1))[
        batch.loss_mask
    ]  # (N, C)
    return ops.cross_entropy(model.logits(hidden), batch.targets[batch.loss_mask], n_counted=n_counted)


def encode_instructions(instructions: Iterable[Instruction], *, chat: Chat) -> list[tuple[list[int], list[bool]]]:
    """Each instruction's conversation as (ids, loss mask), for data.PackedConversations or PaddedConversations.

    chat: a tokenizers.ChatFormat; the mask is True for the assistant's own tokens.
    """
    return [chat.encode(item.messages) for item in instructions]

"""What a model is asked to guess while it learns from plain text. An objective is a file with two functions:

    questions   windows (B, T + 1), rng -> Batch: what the model reads, what it should say, and where that counts (`loss_mask`)
    loss        model, batch -> how surprised it was, in nats

The sources of windows take the first (`data.RandomWindows(..., questions=...)`), `training.train` the second (`loss_fn=`).
So far: the next token (`causal_lm`).
"""

from tinyllm.pretraining.causal_lm import next_token_loss, next_tokens

__all__ = ["next_token_loss", "next_tokens"]

"""The settings of a training run, one frozen dataclass; the command line is made from its fields.

The defaults are those with which nanoGPT's small CPU recipe trains; where a paper is the source it is named. What a
model looks like (its width, its context) is not here but in the model's own config.
"""

from dataclasses import dataclass

from tinyllm.optim import constant, warmup_cosine, warmup_stable_decay
from tinyllm.storage.fields import check_choice, check_number, check_whole

SCHEDULES = ("cosine", "stable-decay", "constant")


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast, and how carefully to train. ValueError names the field that does not make sense."""

    max_steps: int = 2000  # optimizer steps in the whole run; nanoGPT's CPU recipe
    batch_size: int = 12  # rows in one micro-batch; nanoGPT's CPU recipe
    gradient_accumulation: int = 1  # micro-batches added up in one step; effective batch = batch_size times this
    learning_rate: float = 1e-3  # peak, per step; nanoGPT for small models (GPT-3's largest used 6e-5)
    min_learning_rate: float = 1e-4  # at the end; a tenth of the peak (Chinchilla, Hoffmann et al. 2022, section B)
    warmup_steps: int = 100  # steps before the peak is reached; nanoGPT's small recipe
    schedule: str = "cosine"  # cosine, stable-decay or constant; see optim/schedules.py
    beta1: float = 0.9  # Adam's memory of the gradient; Kingma & Ba 2015
    beta2: float = 0.99  # Adam's memory of its square; nanoGPT for small batches (GPT-3: 0.95)
    epsilon: float = 1e-8  # Adam's guard against division by zero; Kingma & Ba 2015
    weight_decay: float = 0.1  # pull of matrices towards 0, times the learning rate; GPT-3, appendix B
    grad_clip: float = 1.0  # largest norm of all gradients together, 0 = never clip; GPT-3, appendix B
    eval_interval: int = 250  # steps between evaluations, 0 = never; nanoGPT
    eval_batches: int = 20  # validation batches per evaluation, the same ones each time; nanoGPT's CPU recipe
    checkpoint_interval: int = 250  # steps between checkpoints, 0 = only at the end or when stopped
    keep_last: int = 2  # checkpoints kept besides the one with the best validation loss; older ones are removed
    seed: int = 1337  # starts every random stream of the run; nanoGPT

    def __post_init__(self) -> None:
        check_whole(self, "max_steps", "batch_size", "gradient_accumulation", "eval_batches", "keep_last", low=1)
        check_whole(self, "warmup_steps", "eval_interval", "checkpoint_interval", "seed", low=0)
        check_number(self, "learning_rate", "epsilon", above=0)
        check_number(self, "min_learning_rate", "weight_decay", "grad_clip", low=0)
        check_number(self, "beta1", "beta2", low=0, below=1)  # shares of memory
        check_choice(self, "schedule", SCHEDULES)
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}; lower it")

    def n_tokens(self, block_size: int) -> int:
        """Tokens read in the whole run, in windows of `block_size`."""
        return self.max_steps * self.batch_size * self.gradient_accumulation * block_size

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of the step that follows after `step` steps are done (so it is counted from 0)."""
        if self.schedule == "constant":
            return constant(step, peak=self.learning_rate, warmup_steps=self.warmup_steps)
        shape = warmup_cosine if self.schedule == "cosine" else warmup_stable_decay
        peak, floor = self.learning_rate, self.min_learning_rate
        return shape(step, peak=peak, floor=floor, warmup_steps=self.warmup_steps, max_steps=self.max_steps)

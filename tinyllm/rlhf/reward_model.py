"""Learning what people prefer: a model that gives the preferred of two answers the higher number.

    P(a preferred to b) = σ(r(a) - r(b))
    loss = mean over pairs of  -log σ(r(chosen) - r(rejected) - margin) + c (r(chosen) + r(rejected))²

Bradley & Terry 1952; the mean over all pairs of one prompt is Ouyang et al. 2022, eq. 1. Only differences are learned, so the
level of the rewards is free: c keeps it near 0, and after training `normalise` sets mean 0 and deviation 1 on answers of the
reference policy, so that a KL coefficient means the same for every reward model (Ziegler et al. 2019, section 2). One epoch,
the learning rate down to 0, no dropout: a second epoch learns the labelers' noise (Stiennon et al. 2020, appendix B).
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.data.batches import Epochs, check_identity
from tinyllm.models import RewardModel, load_tokenizer_for
from tinyllm.nn import evaluating
from tinyllm.rlhf.comparisons import ComparedAnswers, check_same_tokenizer, checksum
from tinyllm.rlhf.sequences import Sequences, pad_sequences
from tinyllm.tokenizers import Tokenizer


def bradley_terry_loss(chosen: Tensor, rejected: Tensor, *, margin: Any = 0.0, center_coefficient: float = 0.0) -> Tensor:
    """Loss of each comparison, (N,), from the rewards (N,) of both answers.

    margin              how much higher the chosen one must be (Touvron et al. 2023, Llama 2, eq. 2), a number or (N,)
    center_coefficient  c; 0.01 keeps the mean reward near 0 (Eisenstein et al. 2023, eq. 2)
    """
    losses = -ops.log_sigmoid(chosen - rejected - margin)
    if center_coefficient:
        total = chosen + rejected
        losses = losses + center_coefficient * (total * total)
    return losses


@dataclass(frozen=True)
class PairBatch:
    """The answers to some prompts, each once, and the comparisons between them."""

    sequences: Sequences  # B answers behind their prompts
    chosen: np.ndarray  # (N,) rows of the preferred answers
    rejected: np.ndarray  # (N,) rows of those they were preferred to
    weights: np.ndarray  # (N,) 1 / comparisons of this prompt: each prompt counts the same
    margins: np.ndarray  # (N,)
    n_counted: int  # prompts

    @property
    def tokens(self) -> np.ndarray:
        """All tokens read, (B, T)."""
        return self.sequences.tokens


def pair_batch(groups: Sequence[ComparedAnswers]) -> PairBatch:
    """The groups' answers and comparisons as arrays."""
    prompts = [group.prompt for group in groups for _ in group.answers]
    answers = [answer for group in groups for answer in group.answers]
    firsts = np.cumsum([0, *(len(group.answers) for group in groups[:-1])])
    pairs = np.concatenate([group.pairs + first for group, first in zip(groups, firsts, strict=True)])
    counts = [len(group.pairs) for group in groups]
    weights = np.repeat(1 / np.array(counts, dtype=np.float32), counts)
    margins = np.concatenate([group.margins for group in groups])
    return PairBatch(pad_sequences(prompts, answers), pairs[:, 0], pairs[:, 1], weights, margins, len(groups))


class PreferenceGroups:
    """A batch source: `batch_size` prompts with all their answers and comparisons, shuffled anew each epoch."""

    def __init__(self, groups: Sequence[ComparedAnswers], *, batch_size: int, rng: np.random.Generator):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 prompt, got {batch_size}")
        self.groups, self.batch_size = list(groups), batch_size
        self.epochs = Epochs(lambda rng: rng.permutation(len(self.groups)).tolist(), rng=rng)
        self._checksum = checksum(self.groups)

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every prompt has been seen."""
        return -(-len(self.groups) // self.batch_size)

    def next_batch(self) -> PairBatch:
        """The next `batch_size` prompts."""
        return pair_batch([self.groups[i] for i in self.epochs.take_across(self.batch_size)])

    def state(self) -> dict[str, Any]:
        """Where it stands, and which comparisons these are."""
        return {**self._identity(), "epochs": self.epochs.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; ValueError if it was taken with other comparisons."""
        check_identity(self._identity(), state)
        self.epochs.restore(state["epochs"])

    def _identity(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "comparisons_crc32": self._checksum}


def preference_loss(
    model: RewardModel, batch: PairBatch, *, n_counted: int, center_coefficient: float = 0.0, margin_scale: float = 0.0
) -> Tensor:
    """The loss function for `train`: mean over prompts of the mean over their comparisons.

    margin_scale times the margin of a comparison is the margin of its loss; 0 = all alike, as InstructGPT.
    """
    rewards = model(batch.sequences.tokens, batch.sequences.attention_mask)  # (B,)
    margin = margin_scale * batch.margins if margin_scale else 0.0
    chosen, rejected = rewards[batch.chosen], rewards[batch.rejected]
    losses = bradley_terry_loss(chosen, rejected, margin=margin, center_coefficient=center_coefficient)
    return ops.sum(losses * batch.weights.astype(losses.dtype)) / n_counted


def score_sequences(model: RewardModel, sequences: Sequences, *, batch_size: int = 64) -> np.ndarray:
    """Rewards (B,), without gradients, `batch_size` rows at a time."""
    parts = []
    with evaluating(model):
        for first in range(0, len(sequences), batch_size):
            part = sequences.select(np.arange(first, min(first + batch_size, len(sequences))))
            parts.append(model(part.tokens, part.attention_mask).data)
    return np.concatenate(parts)


def normalise(model: RewardModel, sequences: Sequences) -> tuple[float, float]:
    """Set gain and bias so that these answers have mean 0 and standard deviation 1; returns what they had before.

    Give it answers sampled from the *reference policy*, to prompts as in training: on the labelers' pairs, which may come from
    many policies, the mean would be another. It divides by the rewards' scale, so look at the calibration before.
    """
    rewards = score_sequences(model, sequences)
    mean, std = float(rewards.mean(dtype=np.float64)), float(rewards.std(dtype=np.float64))
    if not (np.isfinite(mean) and std > 0):
        found = f"{len(rewards)} answers with rewards of mean {mean} and deviation {std}"
        raise ValueError(f"sequences: {found} cannot be normalised; does the model give every text the same reward?")
    model.gain.assign(model.gain.data / std)
    model.bias.assign((model.bias.data - mean) / std)
    return mean, std


def compare_pairs(model: RewardModel, groups: Iterable[ComparedAnswers]) -> np.ndarray:
    """r(chosen) - r(rejected) of every comparison, (N,), in the groups' order."""
    differences = []
    for group in groups:
        rewards = score_sequences(model, pad_sequences([group.prompt] * len(group.answers), group.answers))
        differences.append(rewards[group.pairs[:, 0]] - rewards[group.pairs[:, 1]])
    return np.concatenate(differences)


def pair_accuracy(differences: np.ndarray) -> tuple[float, float]:
    """Share of comparisons (N,) that the model decides as the labeler did, a tie counts half; and its standard error."""
    right = np.where(differences == 0, 0.5, differences > 0)
    return float(right.mean()), float(right.std() / np.sqrt(len(right)))


@dataclass(frozen=True)
class Calibration:
    """A reliability table: of the comparisons decided with a confidence in this bin, what share was right?"""

    edges: np.ndarray  # (n_bins + 1,) of confidence, from 0.5 to 1
    counts: np.ndarray  # (n_bins,) comparisons
    confidence: np.ndarray  # (n_bins,) mean of σ(|difference|); nan where there are none
    accuracy: np.ndarray  # (n_bins,) share decided as the labeler did
    expected_error: float  # Σ counts · |confidence - accuracy| / N


def calibrate(differences: np.ndarray, *, n_bins: int = 10) -> Calibration:
    """Do answers said to be preferred with probability p win p of the time? (Guo et al. 2017, section 2, eq. 3)

    differences (N,) r(chosen) - r(rejected), on the scale the model was trained with: before `normalise`, that is.
    """
    if n_bins < 1 or not len(differences):
        raise ValueError(f"{len(differences)} comparisons in {n_bins} bins: at least one of each is needed")
    confidence = 1 / (1 + np.exp(-np.abs(differences.astype(np.float64))))
    right = np.where(differences == 0, 0.5, differences > 0)
    edges = np.linspace(0.5, 1, n_bins + 1)
    which = np.minimum(((confidence - 0.5) * 2 * n_bins).astype(int), n_bins - 1)
    counts = np.bincount(which, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(which, weights=values, minlength=n_bins) / counts for values in (confidence, right)]
    error = np.nansum(counts * np.abs(means[0] - means[1])) / len(differences)
    return Calibration(edges, counts, means[0], means[1], float(error))


def load_reward_model(folder: str | os.PathLike[str], *, policy_tokenizer: Tokenizer) -> RewardModel:
    """The reward model in `folder`, for a policy with this tokenizer; ValueError if it was trained with another one."""
    model = RewardModel.from_pretrained(str(folder))  # first: a language model would fit even less than another's reward model
    check_same_tokenizer(policy_tokenizer, load_tokenizer_for(folder), name=f"the reward model in {folder}")
    return model

"""Direct preference optimisation: the reward model and the reinforcement learning in one step of algebra.

    r(x, y) = β log π(y|x) / ref(y|x) + const(x)   is the reward for which π is the best policy at KL price β, hence
    loss = -log σ( β [log π(chosen)/ref(chosen) - log π(rejected)/ref(rejected)] )        (Rafailov et al. 2023, eq. 7)

log π of an answer is the SUM over its tokens, stop token included, prompt and padding left out. At the first step π = ref:
every margin is 0, the loss ln 2. Afterwards the margin grows while log π(chosen) often FALLS: the loss sees the difference
only, the two answers share most of their tokens, and what is taken from the rejected one goes to answers in neither pile.
A fall of some nats is usual; tens of nats mean a β too small or too many steps. The variants below change one line each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.data.batches import Epochs, check_identity
from tinyllm.models.contract import LanguageModel, Policy
from tinyllm.nn import evaluating
from tinyllm.rlhf.comparisons import ComparedAnswers, checksum
from tinyllm.rlhf.log_probs import frozen_log_probs, sequence_log_probs
from tinyllm.rlhf.policy_gradient import disable_dropout
from tinyllm.rlhf.sequences import Sequences, pad_sequences
from tinyllm.training.metrics import StepMetrics


@dataclass(frozen=True)
class PairLogProbs:
    """log-probabilities of N pairs of answers, each (N,): of the policy (Tensors) and of the reference, and token counts."""

    policy_chosen: Tensor
    policy_rejected: Tensor
    ref_chosen: Any
    ref_rejected: Any
    chosen_length: np.ndarray
    rejected_length: np.ndarray

    @property
    def chosen_ratio(self) -> Any:
        """log π/ref of the chosen answers: how much more likely they have become."""
        return self.policy_chosen - self.ref_chosen

    @property
    def rejected_ratio(self) -> Any:
        """log π/ref of the rejected answers."""
        return self.policy_rejected - self.ref_rejected

    @property
    def mean_ratio_difference(self) -> Any:
        """chosen_ratio - rejected_ratio, each per token."""
        return self.chosen_ratio / self.chosen_length - self.rejected_ratio / self.rejected_length


def dpo_loss(pair: PairLogProbs, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Tensor:
    """-(1-ε) log σ(β h) - ε log σ(-β h), h = chosen_ratio - rejected_ratio. (N,)

    ε = label_smoothing > 0 says that a share ε of the labels is wrong, and stops h from growing without bound (Mitchell 2023,
    "conservative DPO"); 0 is Rafailov et al. 2023, eq. 7.
    """
    logits = beta * (pair.chosen_ratio - pair.rejected_ratio)
    if not label_smoothing:
        return -ops.log_sigmoid(logits)
    return -(1 - label_smoothing) * ops.log_sigmoid(logits) - label_smoothing * ops.log_sigmoid(-logits)


def robust_dpo_loss(pair: PairLogProbs, *, beta: float = 0.1, label_smoothing: float = 0.1) -> Tensor:
    """(-(1-ε) log σ(β h) + ε log σ(-β h)) / (1 - 2ε): in the mean over flipped labels, the loss of the true ones. (N,)

    Chowdhury et al. 2024, "Provably robust DPO": unbiased where `dpo_loss` with smoothing is careful. ε must be below 1/2.
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected the share of wrong labels, 0 to below 0.5")
    logits = beta * (pair.chosen_ratio - pair.rejected_ratio)
    clean, flipped = -ops.log_sigmoid(logits), -ops.log_sigmoid(-logits)
    return ((1 - label_smoothing) * clean - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def ipo_loss(pair: PairLogProbs, *, beta: float = 0.1) -> Tensor:
    """(h/token - 1/(2β))²: the margin has a target, so pairs that all labelers agree on do not pull for ever. (N,)

    Azar et al. 2023, eq. 17, with τ = β. Ratios are per token, which the paper does not write but its experiments use:
    a sum would ask long answers for the same margin as short ones, squared.
    """
    distance = pair.mean_ratio_difference - 1 / (2 * beta)
    return distance * distance


def length_normalised_dpo_loss(pair: PairLogProbs, *, beta: float = 2.0) -> Tensor:
    """-log σ(β (chosen_ratio / tokens - rejected_ratio / tokens)): a longer answer is no longer a larger reward. (N,)

    DPO with the average log-probability of SimPO (below), reference kept. β is per token, hence larger.
    """
    return -ops.log_sigmoid(beta * pair.mean_ratio_difference)


def simpo_loss(pair: PairLogProbs, *, beta: float = 2.0, gamma: float = 0.5) -> Tensor:
    """-log σ(β log π(chosen)/|chosen| - β log π(rejected)/|rejected| - γ): without a reference. (N,)

    Meng et al. 2024, eq. 6: the reward is what generation itself maximises, the mean log-probability. Nothing but the
    learning rate holds the policy near where it began. Its first loss is not ln 2.
    """
    means = pair.policy_chosen / pair.chosen_length - pair.policy_rejected / pair.rejected_length
    return -ops.log_sigmoid(beta * means - gamma)


PairLoss = Callable[..., Tensor]
LOSSES: dict[str, PairLoss] = {
    "dpo": dpo_loss,
    "robust": robust_dpo_loss,
    "ipo": ipo_loss,
    "length-normalised": length_normalised_dpo_loss,
    "simpo": simpo_loss,
}


@dataclass(frozen=True)
class PreferenceBatch:
    """B pairs: rows 0..B-1 of `sequences` are the chosen answers, rows B..2B-1 the rejected ones, in one forward."""

    sequences: Sequences  # 2B rows
    ref_log_probs: np.ndarray  # (2B,)

    @property
    def n_counted(self) -> int:
        """Pairs."""
        return len(self.sequences) // 2

    @property
    def tokens(self) -> np.ndarray:
        """All tokens read, (2B, T)."""
        return self.sequences.tokens


class PreferencePairs:
    """A batch source of single comparisons, the reference's log-probabilities computed once, at the start.

    groups      from `encode_preferences`
    reference   the policy before training. With LoRA, the policy itself: make this object inside `lora_disabled(policy)`

    After that the reference is not needed any more: DPO holds one model in memory, not two.
    """

    def __init__(self, groups: Sequence[ComparedAnswers], *, reference: Policy, batch_size: int, rng: np.random.Generator):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 pair, got {batch_size}")
        self.groups, self.batch_size = list(groups), batch_size
        self.pairs = [(g, *map(int, pair)) for g, group in enumerate(self.groups) for pair in group.pairs]
        self.epochs = Epochs(lambda rng: rng.permutation(len(self.pairs)).tolist(), rng=rng)
        self.ref_log_probs = reference_log_probs(reference, self.groups)
        self._reference_mean = float(np.concatenate(self.ref_log_probs).mean())
        self._checksum = checksum(self.groups)

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every comparison has been seen."""
        return -(-len(self.pairs) // self.batch_size)

    def next_batch(self) -> PreferenceBatch:
        """The next `batch_size` comparisons."""
        return self.batch(self.epochs.take_across(self.batch_size))

    def batch(self, indices: Sequence[int]) -> PreferenceBatch:
        """The comparisons with these indices."""
        picked = [self.pairs[i] for i in indices]
        rows = [(g, chosen) for g, chosen, _ in picked] + [(g, rejected) for g, _, rejected in picked]
        prompts, answers = [self.groups[g].prompt for g, _ in rows], [self.groups[g].answers[i] for g, i in rows]
        return PreferenceBatch(pad_sequences(prompts, answers), np.array([self.ref_log_probs[g][i] for g, i in rows]))

    def state(self) -> dict[str, Any]:
        """Where it stands, which comparisons these are, and which reference judged them."""
        return {**self._identity(), "reference_log_prob": self._reference_mean, "epochs": self.epochs.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; ValueError if it was taken with other comparisons or another reference."""
        check_identity(self._identity(), state)
        ours, theirs = self._reference_mean, state["reference_log_prob"]
        if not np.isclose(ours, theirs, rtol=1e-4):
            raise ValueError(
                f"the reference gives these answers a mean log-probability of {ours:.4f}, but {theirs:.4f} when the state was "
                "taken; make the source with the policy before training, not with the one that is resumed"
            )
        self.epochs.restore(state["epochs"])

    def _identity(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "comparisons_crc32": self._checksum}


def reference_log_probs(reference: Policy, groups: Sequence[ComparedAnswers]) -> list[np.ndarray]:
    """log π of each group's K answers under the reference, a list of (K,), without gradients."""
    prompts = [group.prompt for group in groups for _ in group.answers]
    answers = [answer for group in groups for answer in group.answers]
    parts = []
    with evaluating(reference):
        for first in range(0, len(prompts), 64):
            rows = slice(first, first + 64)
            parts.append(frozen_log_probs(reference, pad_sequences(prompts[rows], answers[rows])).sum(axis=1))
    ends = np.cumsum([len(group.answers) for group in groups])
    return np.split(np.concatenate(parts), ends[:-1])


def pair_log_probs(policy: Policy, batch: PreferenceBatch) -> PairLogProbs:
    """What the losses need, of one batch: one forward for chosen and rejected answers together."""
    log_probs, lengths, n = sequence_log_probs(policy, batch.sequences), batch.sequences.lengths, batch.n_counted
    ref, lengths = batch.ref_log_probs.astype(log_probs.dtype), lengths.astype(log_probs.dtype)
    return PairLogProbs(log_probs[:n], log_probs[n:], ref[:n], ref[n:], lengths[:n], lengths[n:])


class DPO:
    """The loss function for `train`: one of LOSSES with its settings. Pass `measure` beside it: means over the pairs of a step.

    objective = DPO(dpo_loss, beta=0.1)
    train(policy, pairs, config=config, loss_fn=objective, measure=objective.measure)
    """

    def __init__(self, loss: PairLoss = dpo_loss, *, beta: float = 0.1, **settings: float):
        if not beta > 0:
            raise ValueError(f"beta must be above 0, got {beta!r}: it is the price of leaving the reference")
        self.loss, self.beta, self.settings = loss, beta, settings
        self.measure = StepMetrics()
        self._prepared: Any = None  # the model whose dropout has been switched off

    def __call__(self, model: LanguageModel, batch: PreferenceBatch, *, n_counted: int) -> Tensor:
        """Mean loss over pairs: their sum divided by n_counted."""
        if self._prepared is not model:
            disable_dropout(model)
            self._prepared = model
        pair = pair_log_probs(model, batch)
        losses = self.loss(pair, beta=self.beta, **self.settings)
        if model.training:
            self.measure.add(batch.n_counted, **pair_metrics(pair, beta=self.beta))
        return ops.sum(losses) / n_counted


def pair_metrics(pair: PairLogProbs, *, beta: float) -> dict[str, float]:
    """Means over a batch. Rewards are β log π/ref; accuracy counts a tie, which every pair is at first, as half."""
    chosen, rejected = (beta * ratio.data for ratio in (pair.chosen_ratio, pair.rejected_ratio))
    accuracy = np.where(chosen == rejected, 0.5, chosen > rejected)
    columns = {
        "chosen_reward": chosen,
        "rejected_reward": rejected,
        "reward_margin": chosen - rejected,
        "reward_accuracy": accuracy,
        "chosen_log_prob": pair.policy_chosen.data,
        "rejected_log_prob": pair.policy_rejected.data,
    }
    return {name: float(column.mean()) for name, column in columns.items()}

"""The skeleton that PPO, GRPO, RLOO and REINFORCE share: sample, judge, learn, again.

    repeat:  prompts -> answers of the policy (KV cache, a whole batch)            sample_rollout
             answers -> a score each                                               reward
             scores  -> an advantage for each token                                estimate      (the algorithm's own)
             a few optimizer steps on minibatches of these answers                 loss          (the algorithm's own)

It is a batch source for `training.train`: `next_batch` gives the next minibatch and, when they are used up, goes and samples.
So the loop, its checkpoints, exact resume, signals and NaN checks are those of pre-training; the answers not yet learned from are
part of the source's state. What an algorithm adds is `estimate` and `loss`: read two of them side by side, and the difference is
the mathematics. No dropout anywhere: the policy that is scored must be the policy that sampled.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor, no_grad
from tinyllm.data.batches import check_identity, rng_state
from tinyllm.models.contract import LanguageModel, Policy
from tinyllm.nn import Dropout, Module
from tinyllm.nn.module import HasModules
from tinyllm.rlhf.advantages import masked_mean
from tinyllm.rlhf.kl import kl_estimate
from tinyllm.rlhf.log_probs import frozen_log_probs, response_logits
from tinyllm.rlhf.rollout import Reward, Rollout, RolloutConfig, check_prompts, check_scores, sample_rollout
from tinyllm.rlhf.sequences import Sequences
from tinyllm.training.metrics import StepMetrics

M = TypeVar("M", contravariant=True)  # what an algorithm trains: a policy, or a policy and a critic


@dataclass(frozen=True)
class Experience:
    """A minibatch to learn from. `n_counted`: what its weighted sum of token losses is divided by."""

    sequences: Sequences
    arrays: dict[str, np.ndarray]  # name -> (B, R): old_log_probs, advantages, weights, and what the algorithm needs besides
    n_counted: int

    @property
    def tokens(self) -> np.ndarray:
        """All tokens read, (B, P+R)."""
        return self.sequences.tokens


def token_weights(mask: np.ndarray, normaliser: str, max_new_tokens: int) -> np.ndarray:
    """Weight of each answer token in the loss, (B, R); the sum of weighted losses is divided by B in all three cases.

    sequence   1 / its answer's length: each answer counts the same, so a token of a long one counts less (GRPO's paper)
    token      1 / mean length: each token counts the same (DAPO, Yu et al. 2025, section 3.3; PPO)
    constant   1 / max_new_tokens: the same, without a length in it that the policy could change (Dr. GRPO)

    The first lets a policy dilute a bad answer by making it longer, which is how answers grow for no reason.
    """
    lengths = {
        "sequence": mask.sum(axis=1, keepdims=True),
        "token": np.full((len(mask), 1), mask.sum() / len(mask)),
        "constant": np.full((len(mask), 1), max_new_tokens),
    }[normaliser]
    return np.where(mask, 1 / np.where(lengths, lengths, 1), 0).astype(np.float32)  # a row without a counted token: 0


class PolicyGradient(Generic[M]):
    """Base of the algorithms: a BatchSource whose batches are the policy's own answers.

    policy     a GPT (or any model with hidden, logits and new_cache)
    prompts    lists of token ids, each ending where the answer begins
    reward     list of Sample -> a number each; see `Reward`
    reference  the frozen policy that KL is measured against, or None; for a LoRA policy `WithoutAdapters(policy)`
    stop_id    the token that ends an answer

    Raises ValueError for no prompts, for one that leaves no room for an answer, and, while sampling, for a reward that
    is not finite.
    """

    def __init__(
        self, policy: LanguageModel, prompts: Sequence[list[int]], reward: Reward, *, config: RolloutConfig, stop_id: int,
        rng: np.random.Generator, reference: Policy | None = None,
    ):  # fmt: skip
        check_prompts(prompts, block_size=policy.config.block_size, max_new_tokens=config.max_new_tokens)
        self.config: Any = config  # the algorithm's own
        if reference is None and (price := vars(config).get("kl_coefficient")):
            raise ValueError(
                f"reference is None, but kl_coefficient {price} is the price of the distance to it; give a frozen copy of the "
                "policy (for one with LoRA: WithoutAdapters(policy)), or kl_coefficient=0"
            )
        disable_dropout(policy)
        if isinstance(reference, Module):
            disable_dropout(reference)
        self.policy, self.reward, self.reference = policy, reward, reference
        self.prompts = [list(map(int, prompt)) for prompt in prompts]
        self._identity = {"algorithm": type(self).__name__, "prompts_sha256": digest(self.prompts)}
        self._identity |= {f"config.{name}": value for name, value in asdict(config).items()}
        self.stop_id, self.rng = stop_id, rng
        self.rollout: Rollout | None = None  # the latest, to look at
        self.n_rollouts = 0
        self._prompts_left: list[int] = []
        self._minibatches: list[list[int]] = []  # rows of those still to be learned from
        self._sequences: Sequences | None = None
        self._arrays: dict[str, np.ndarray] = {}
        self.measure = StepMetrics()  # for the log: pass it to `train`

    # What an algorithm defines.

    def estimate(self, rollout: Rollout) -> dict[str, np.ndarray]:
        """ "advantages" (B, R), and whatever else `loss` wants per token."""
        raise TypeError(f"{type(self).__name__} does not define estimate")

    def loss(self, model: M, batch: Experience, *, n_counted: int) -> Tensor:
        """The loss of a minibatch: the loss function that `train` is given."""
        raise TypeError(f"{type(self).__name__} does not define loss")

    # What they share: being a batch source.

    def next_batch(self) -> Experience:
        """The next minibatch; samples a new rollout when the last one is used up."""
        if not self._minibatches or self.enough():
            self._sample()
        rows = np.array(self._minibatches.pop(0))
        assert self._sequences is not None
        sequences = self._sequences.select(rows)
        n_columns = sequences.tokens.shape[1] - sequences.n_prompt
        arrays = {name: array[rows, :n_columns] for name, array in self._arrays.items()}
        return Experience(sequences, arrays, len(rows))

    def enough(self) -> bool:
        """Whether the rest of this rollout should be left (PPO: the policy has already moved too far)."""
        return False

    def note(self, **metrics: Any) -> None:
        """Adds to what the log gets of this step: numbers of its rollout."""
        self.measure.set(**metrics)

    def _sample(self) -> None:
        """One rollout, judged and cut into minibatches."""
        self.rollout = rollout = self.collect()
        self.n_rollouts += 1
        self._note_rollout(rollout)
        mask = rollout.sequences.response_mask
        weights = token_weights(mask, self.config.normaliser, self.config.max_new_tokens)
        self._arrays = {"old_log_probs": rollout.log_probs, "weights": weights}
        if rollout.ref_log_probs is not None:
            self._arrays["ref_log_probs"] = rollout.ref_log_probs
        self._arrays |= self.estimate(rollout)
        self._sequences = rollout.sequences
        self._minibatches = []
        for _ in range(self.config.epochs):
            order, size = self.rng.permutation(len(mask)).tolist(), self.config.minibatch_size
            self._minibatches += [order[i : i + size] for i in range(0, len(order), size)]

    def collect(self) -> Rollout:
        """Samples answers and scores them. ValueError for rewards of a wrong number, or that are not finite."""
        config = self.config
        indices = np.repeat([self._next_prompt() for _ in range(config.n_prompts)], config.group_size)
        samples, sequences = sample_rollout(self.policy, self.prompts, indices, config=config, stop_id=self.stop_id, rng=self.rng)
        scores = check_scores(self.reward(samples), samples)
        if config.missing_stop_score is not None:
            scores = np.where([sample.finished for sample in samples], scores, config.missing_stop_score)
        log_probs = frozen_log_probs(self.policy, sequences, temperature=config.temperature, batch_size=config.minibatch_size)
        return Rollout(samples, sequences, scores, log_probs, self._reference_log_probs(sequences))

    def _next_prompt(self) -> int:
        """Every prompt once in random order, then again in another."""
        if not self._prompts_left:
            self._prompts_left = self.rng.permutation(len(self.prompts)).tolist()
        return self._prompts_left.pop()

    def _reference_log_probs(self, sequences: Sequences) -> np.ndarray | None:
        """log-probs of the reference, None without one."""
        if self.reference is None:
            return None
        temperature, batch_size = self.config.temperature, self.config.minibatch_size
        return frozen_log_probs(self.reference, sequences, temperature=temperature, batch_size=batch_size)

    def _note_rollout(self, rollout: Rollout) -> None:
        lengths = rollout.sequences.lengths
        finished = np.mean([sample.finished for sample in rollout.samples])
        self.note(rollout=self.n_rollouts, score=rollout.scores.mean(), score_std=rollout.scores.std())
        self.note(length=lengths.mean(), finished=finished)
        if rollout.ref_log_probs is not None:
            kl = kl_estimate(rollout.log_probs, rollout.ref_log_probs)
            self.note(kl=kl.sum(axis=1).mean())  # nats per answer; padding is 0 in both
        if self.config.group_size > 1:
            groups = rollout.scores.reshape(-1, self.config.group_size)
            self.note(frac_zero_std=np.mean(np.ptp(groups, axis=1) == 0))

    # Where it stands, for checkpoints.

    def state(self) -> dict[str, Any]:
        """All that decides the next minibatch, the arrays of answers still to be learned from included."""
        experience: dict[str, Any] = {}
        if self._minibatches:
            assert self._sequences is not None
            own = self._sequences
            experience = {"tokens": own.tokens, "mask": own.attention_mask, "n_prompt": own.n_prompt, "arrays": self._arrays}
        return {
            **self._identity,
            "rng": rng_state(self.rng),
            "n_rollouts": self.n_rollouts,
            "prompts_left": list(self._prompts_left),
            "minibatches": [list(rows) for rows in self._minibatches],
            "experience": experience,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to where `state` was taken. ValueError if it was taken with other prompts, settings or another algorithm."""
        check_identity(self._identity, state)
        self.rng.bit_generator.state = state["rng"]
        self.n_rollouts = state["n_rollouts"]
        self._prompts_left = list(state["prompts_left"])
        self._minibatches = [list(rows) for rows in state["minibatches"]]
        if self._minibatches:
            parts = dict(state["experience"])
            self._arrays = {name: np.array(array) for name, array in parts.pop("arrays").items()}
            self._sequences = Sequences(np.array(parts["tokens"]), np.array(parts["mask"]), parts["n_prompt"])


def weighted_loss(token_losses: Tensor, batch: Experience, n_counted: float) -> Tensor:
    """Σ weight · loss / n_counted: a scalar."""
    return ops.sum(token_losses * batch.arrays["weights"].astype(token_losses.dtype)) / n_counted


def step_share(loss: Tensor, batch: Experience, n_counted: float) -> float:
    """A minibatch's `weighted_loss` as its own mean, for `measure.add`: the step's mean is then the step's loss."""
    return loss.item() * n_counted / batch.n_counted


def policy_statistics(logits: Tensor, log_probs: Tensor, batch: Experience) -> dict[str, float]:
    """Numbers that tell how a policy update goes, means over the answers' tokens.

    approx_kl      KL(old ‖ new) by k3: how far the policy has moved since it sampled
    entropy        nats per token: how undecided it still is; a fall to 0 means it always says the same
    ratio, ratio_var   π_new / π_old: mean 1 and variance 0 before the first step
    """
    mask = batch.sequences.response_mask
    difference = log_probs.data - batch.arrays["old_log_probs"]  # log (new / old)
    ratio = np.exp(np.where(mask, difference, 0))
    with no_grad():
        entropy = ops.entropy(Tensor(logits.data)).data
    return {
        "approx_kl": masked_mean(ratio - 1 - difference, mask),
        "entropy": masked_mean(entropy, mask),
        "ratio": masked_mean(ratio, mask),
        "ratio_var": float(ratio[mask].var()),
    }


def clip_fraction(log_probs: Tensor, batch: Experience, *, low: float, high: float) -> float:
    """Share of the answers' tokens whose ratio π_new / π_old lies outside [1 - low, 1 + high]."""
    mask = batch.sequences.response_mask
    ratio = np.exp(log_probs.data - batch.arrays["old_log_probs"])[mask]
    return float(np.mean((ratio < 1 - low) | (ratio > 1 + high)))


def policy_logits(policy: Policy, batch: Experience, *, temperature: float) -> tuple[Tensor, Tensor]:
    """(logits (B, R, V), log-probs (B, R)) of the answers under the policy as it is now."""
    logits = response_logits(policy, batch.sequences, temperature=temperature)
    return logits, answer_log_probs(logits, batch)


def answer_log_probs(logits: Tensor, batch: Experience) -> Tensor:
    """log-probs (B, R) of the answers' tokens, and 0 at padding, where a ratio to a number that means nothing could overflow."""
    log_probs = ops.token_log_probs(logits, batch.sequences.responses)
    return ops.where(log_probs, np.zeros((), log_probs.dtype), condition=batch.sequences.response_mask)


def disable_dropout(model: HasModules) -> None:
    """Sets every dropout below `model` to 0: scoring an answer must not be a matter of luck."""
    for _, module in model.named_modules():
        if isinstance(module, Dropout):
            module.p = 0.0


def digest(prompts: list[list[int]]) -> str:
    """sha256 of the prompts: a run goes on with those it began with."""
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()

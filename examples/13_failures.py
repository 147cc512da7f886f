"""A museum of failures: five bugs that everybody who trains on rewards meets once, each beside the curve that betrays it.

None of them crashes, and in each some number looks fine. So an exhibit runs twice, rightly and with the bug, and shows the
number that is wrong. The world is tiny: a text is a sign and letters, one sign walks up the alphabet and the other down, and a
small GPT has learned to continue such walks with some slips. The reward counts right letters. The library has no switch for
a bug: each is put in here, by a few lines that replace the right ones.

Read next: tinyllm/rlhf/log_probs.py, tinyllm/report/diagnosis.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import lesson
import numpy as np

from tinyllm import Tensor, no_grad, ops
from tinyllm.decoding import generate
from tinyllm.models import GPT, GPTConfig
from tinyllm.optim import AdamW
from tinyllm.report.chart import Line, Plot, picture
from tinyllm.rlhf.comparisons import ComparedAnswers
from tinyllm.rlhf.dpo import DPO, PairLogProbs, PreferencePairs, dpo_loss, pair_metrics
from tinyllm.rlhf.grpo import GRPO, GRPOConfig
from tinyllm.rlhf.kl import kl_estimate
from tinyllm.rlhf.policy_gradient import PolicyGradient
from tinyllm.rlhf.reinforce import RLOO, ReinforceConfig
from tinyllm.rlhf.rollout import Rollout, Sample
from tinyllm.rlhf.sequences import Sequences
from tinyllm.training import StepRecord, TrainConfig, train

STOP, UP, DOWN = 0, 1, 2  # then the letters a to h
N_LETTERS, LONGEST = 8, 14
SHAPE = GPTConfig(
    vocab_size=3 + N_LETTERS, block_size=24, n_layers=2, n_heads=2, d_model=48, init_std=0.08, bias=False
)  # fmt: skip
Curves = dict[str, list[float]]  # measurement -> its values, one a step


# ---- the tiny world


def walk(rng: np.random.Generator) -> list[int]:
    """A text: sign, letters that follow it (one in six is a slip), stop."""
    sign, letter = int(rng.integers(UP, DOWN + 1)), int(rng.integers(N_LETTERS))
    ids = [sign]
    for _ in range(int(rng.integers(6, 13))):
        ids.append(3 + letter)
        letter = int(rng.integers(N_LETTERS)) if rng.random() < 1 / 6 else (letter + (1 if sign == UP else -1)) % N_LETTERS
    return [*ids, STOP]


def n_right(prompt: list[int], answer: list[int]) -> int:
    """How many letters of the answer follow the one before them in the direction of the prompt's sign."""
    ids, step = [*prompt[1:], *answer], 1 if prompt[0] == UP else -1
    pairs = zip(ids[len(prompt) - 2 : -1], answer, strict=True)
    return sum(now != STOP and (now - before - step) % N_LETTERS == 0 for before, now in pairs)


def reward(samples: list[Sample]) -> list[float]:
    """A tenth for each right letter: longer is better, which is an invitation."""
    return [n_right(sample.prompt, sample.response) / 10 for sample in samples]


def pretrain(seed: int, steps: int = 300) -> GPT:
    """A GPT that continues walks, slips included."""
    rng = np.random.default_rng(seed)
    model = GPT(SHAPE, rng=rng)
    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(steps):
        texts = [walk(rng) for _ in range(64)]
        tokens = np.array([text + [STOP] * (LONGEST - len(text)) for text in texts])
        counted = np.arange(1, LONGEST) < np.array([len(text) for text in texts])[:, None]
        model.loss(tokens[:, :-1], tokens[:, 1:], loss_mask=counted).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def copy_of(model: GPT, kind: type[GPT] = GPT) -> GPT:
    """The same weights in another model."""
    copied = kind(model.config, rng=None)
    copied.load_state_dict(model.state_dict())
    return copied


def prompts_of(rng: np.random.Generator, n: int = 256) -> list[list[int]]:
    """Beginnings of walks: the sign and 1 to 6 letters, so that most are padded in a batch."""
    return [walk(rng)[: int(rng.integers(2, 8))] for _ in range(n)]


@dataclass
class Lab:
    """What every exhibit starts from."""

    base: GPT
    steps: int
    seed: int

    def train(self, model: Any, source: Any, loss: Any, *, measure: Callable[[], dict[str, float]], rate: float = 1e-3) -> Curves:
        """What was measured, step by step."""
        settings: dict[str, Any] = {"schedule": "constant", "warmup_steps": 3, "weight_decay": 0.0, "eval_interval": 0}
        config = TrainConfig(max_steps=self.steps, learning_rate=rate, checkpoint_interval=0, **settings)
        curves: Curves = {"loss": []}
        for record in train(model, source, config=config, loss_fn=loss, measure=measure):
            assert isinstance(record, StepRecord)
            curves["loss"].append(record.loss)
            for name, value in record.metrics.items():
                curves.setdefault(name, []).append(value)
        return curves

    def improve(self, algorithm: type[PolicyGradient], config: Any) -> Curves:
        """Policy gradients from the base model on."""
        model, rng = copy_of(self.base), np.random.default_rng(self.seed)
        source = algorithm(model, prompts_of(rng), reward, config=config, stop_id=STOP, rng=rng, reference=self.base)
        return self.train(model, source, source.loss, measure=source.measure)


# ---- 1. no temperature in the update


class ForgetsTemperature(GRPO):
    """Samples at config.temperature, but the update computes softmax(logits) and not softmax(logits / temperature)."""

    def loss(self, model: Any, batch: Any, *, n_counted: int) -> Tensor:
        """The loss of GRPO as if the temperature were 1."""
        right = self.config
        self.config = replace(right, temperature=1.0)
        try:
            return super().loss(model, batch, n_counted=n_counted)
        finally:
            self.config = right


def no_temperature(lab: Lab) -> list[Curves]:
    """The share of clipped tokens: one update a rollout, so nothing has moved yet and it must be 0, always."""
    config = GRPOConfig(n_prompts=8, group_size=8, max_new_tokens=12, minibatch_size=64, temperature=0.6)
    return [lab.improve(kind, config) for kind in (GRPO, ForgetsTemperature)]


# ---- 2. wrong padding mask


class SeesPadding(GPT):
    """Attends to the padding on the left, and counts positions from it."""

    def hidden(self, tokens: np.ndarray, *, cache: Any = None, attention_mask: np.ndarray | None = None) -> Tensor:
        """As GPT's, without its mask."""
        return super().hidden(tokens, cache=cache)  # right: attention_mask=attention_mask


def wrong_padding_mask(lab: Lab) -> list[Curves]:
    """Right letters against padding: the same short prompt, answered beside ever longer ones. It must not matter."""
    curves = []
    for kind in (GPT, SeesPadding):
        model, by_padding = copy_of(lab.base, kind), []
        for n_padding in range(0, 9):
            rng = np.random.default_rng(lab.seed)
            short = [walk(rng)[:3] for _ in range(200)]
            longest = [[UP] + [3] * (2 + n_padding)]
            answers = generate(model, short + longest, max_new_tokens=4, rng=rng).tokens[:-1]
            by_padding.append(float(np.mean([n_right(*pair) / 4 for pair in zip(short, answers, strict=True)])))
        curves.append({"right letters": by_padding})
    return curves


# ---- 3. DPO, shifted by one


def predicted(policy: GPT, sequences: Sequences) -> Tensor:
    """log π of each answer, (B,): the logits before a token are those that predict it."""
    hidden = policy.hidden(sequences.tokens, attention_mask=sequences.attention_mask)
    return _summed(hidden[:, sequences.n_prompt - 1 : -1], policy, sequences)


def shifted_by_one(policy: GPT, sequences: Sequences) -> Tensor:
    """The logits at the token itself, where it has been read already, are asked for it again."""
    hidden = policy.hidden(sequences.tokens, attention_mask=sequences.attention_mask)
    return _summed(hidden[:, sequences.n_prompt :], policy, sequences)


def _summed(hidden: Tensor, policy: GPT, sequences: Sequences) -> Tensor:
    log_probs = ops.token_log_probs(policy.logits(hidden), sequences.responses)
    return ops.sum(log_probs * sequences.response_mask.astype(log_probs.dtype), axis=1)


class DPOWith(DPO):
    """DPO that computes log-probabilities, the policy's and the reference's, by the function it is given."""

    def __init__(self, log_probs: Callable[[GPT, Sequences], Tensor], reference: GPT):
        super().__init__(dpo_loss, beta=0.1)
        self.log_probs, self.reference = log_probs, reference

    def __call__(self, model: Any, batch: Any, *, n_counted: int) -> Tensor:
        """As DPO's."""
        n, lengths, policy = batch.n_counted, batch.sequences.lengths, self.log_probs(model, batch.sequences)
        with no_grad():
            ref = self.log_probs(self.reference, batch.sequences).data
        pair = PairLogProbs(policy[:n], policy[n:], ref[:n], ref[n:], lengths[:n], lengths[n:])
        self.measure.add(n, **pair_metrics(pair, beta=self.beta))
        return ops.sum(dpo_loss(pair, beta=self.beta)) / n_counted


def preferred_walks(lab: Lab, n: int = 128) -> list[ComparedAnswers]:
    """Prompts with answers of the base model, those with more right letters preferred."""
    rng, groups = np.random.default_rng(lab.seed), []
    prompts = prompts_of(rng, n)
    asked = [prompt for prompt in prompts for _ in range(4)]
    answers = generate(lab.base, asked, max_new_tokens=12, stop_tokens=(STOP,), rng=rng).tokens
    for i, prompt in enumerate(prompts):
        four = answers[4 * i : 4 * i + 4]
        right = [n_right(prompt, answer) for answer in four]
        if pairs := [(a, b) for a in range(4) for b in range(4) if right[a] > right[b]]:
            groups.append(ComparedAnswers(prompt, four, np.array(pairs), np.zeros(len(pairs), np.float32)))
    return groups


def shifted_dpo(lab: Lab) -> list[Curves]:
    """Log-probability of the chosen answers, nats an answer. Loss (ln 2) and margin (0) begin alike, and both margins grow."""
    groups, curves = preferred_walks(lab), []
    for log_probs in (predicted, shifted_by_one):
        model, objective = copy_of(lab.base), DPOWith(log_probs, lab.base)
        pairs = PreferencePairs(groups, reference=lab.base, batch_size=32, rng=np.random.default_rng(lab.seed))
        curves.append(lab.train(model, pairs, objective, measure=objective.measure, rate=3e-4))
    return curves


# ---- 4. KL with its sign turned


class TurnedKL(RLOO):
    """Takes log π_ref - log π for the KL: what should be a price for leaving the reference is a prize."""

    def estimate(self, rollout: Rollout) -> dict[str, np.ndarray]:
        """RLOO's advantages, with the two exchanged."""
        assert rollout.ref_log_probs is not None
        turned = replace(rollout, log_probs=rollout.ref_log_probs, ref_log_probs=rollout.log_probs)
        self.note(kl=kl_estimate(turned.log_probs, turned.ref_log_probs).sum(axis=1).mean())
        return super().estimate(turned)


def turned_kl(lab: Lab) -> list[Curves]:
    """KL, nats an answer: it may dip below 0 by chance, but it cannot stay there."""
    config = ReinforceConfig(n_prompts=16, group_size=4, max_new_tokens=12, minibatch_size=64, kl_coefficient=0.1)
    return [lab.improve(kind, config) for kind in (RLOO, TurnedKL)]


# ---- 5. no EOS


class IgnoresMissingStop(RLOO):
    """Scores an answer that was cut off as if it had ended."""

    def collect(self) -> Rollout:
        """A rollout whose scores are the reward alone; right: those without a stop token get missing_stop_score."""
        rollout = super().collect()
        return replace(rollout, scores=np.array(self.reward(rollout.samples)))


def no_end(lab: Lab) -> list[Curves]:
    """The share of answers that end. The score rises in both, and even faster with the bug."""
    config = ReinforceConfig(n_prompts=16, group_size=4, max_new_tokens=14, minibatch_size=64, missing_stop_score=-1.0)
    return [lab.improve(kind, config) for kind in (RLOO, IgnoresMissingStop)]


# ---- the museum


@dataclass(frozen=True)
class Exhibit:
    """A bug: the measurement that betrays it, at the start or at the end, and the one that looks fine all the while."""

    show: Callable[[Lab], list[Curves]]  # the right curves and the broken ones
    telling: str
    when: Callable[[list[float]], float]
    fine: str | None
    notice: str
    across: str = "step"


def first(values: list[float]) -> float:
    """Before anything was learned."""
    return values[0]


def last(values: list[float]) -> float:
    """Mean of the last fifth."""
    return float(np.mean(values[-max(1, len(values) // 5) :]))


EXHIBITS = {
    "no temperature in the update": Exhibit(
        no_temperature, "clip_fraction", first, "score",
        "Before the first step the ratio is not 1: tokens are clipped although nothing has been learned yet."),
    "wrong padding mask": Exhibit(
        wrong_padding_mask, "right letters", last, None,
        "A prompt is answered worse in company than alone. Ratio and KL say nothing where all models share the mistake.",
        "tokens of padding"),
    "DPO shifted by one": Exhibit(
        shifted_dpo, "chosen_log_prob", first, "reward_margin",
        "The first loss is ln 2, the margin grows, but the model finds answers of its own absurdly unlikely."),
    "KL with its sign turned": Exhibit(
        turned_kl, "kl", last, "score",
        "KL falls steadily below 0, where no divergence can be: the policy runs away from its reference, and is paid for it."),
    "no EOS": Exhibit(
        no_end, "finished", last, "score",
        "The score rises, even faster than it should; the share of answers that end falls to 0, and their length is the limit."),
}  # fmt: skip


def draw(shown: dict[str, list[Curves]]) -> str:
    """The exhibits side by side: the number that betrays each bug, right and broken."""
    panels = []
    for name, curves in shown.items():
        telling = EXHIBITS[name].telling
        lines = [Line(label, range(len(each[telling])), each[telling], colour)
                 for each, label, colour in zip(curves, ("right", "broken"), (0, 1), strict=True)]  # fmt: skip
        panels.append(Plot(f"{name}: {telling.replace('_', ' ')}", EXHIBITS[name].across, lines))
    return picture(
        panels,
        title="A museum of failures: the number that betrays each bug",
        width=1000,
        height=250,
        columns=min(3, len(panels)),
    )


def spread(values: list[float], n: int = 6) -> str:
    """A few values of a curve, in a row."""
    return "".join(f"{values[i]:9.3f}" for i in np.linspace(0, len(values) - 1, n).round().astype(int))


def main(steps: int = 60, seed: int = 0, *, exhibits: str = "all", figure: str | None = None) -> dict[str, dict[str, float]]:
    """Show the named exhibits, or all, each trained `steps` steps twice; the telling number of both, and the fine one."""
    lab, shown, found = Lab(pretrain(seed), steps, seed), {}, {}
    for name in EXHIBITS if exhibits == "all" else exhibits.split(","):
        exhibit = EXHIBITS[name]
        right, broken = shown[name] = exhibit.show(lab)
        print(f"\n{name.upper()}")
        for measurement in filter(None, (exhibit.fine, exhibit.telling)):
            remark = "looks fine at first" if measurement == exhibit.fine else f"betrays it, over {exhibit.across}"
            print(f"  {measurement.replace('_', ' ')} ({remark})")
            print(f"    right {spread(right[measurement])}\n    broken{spread(broken[measurement])}")
        print(f"  {exhibit.notice}")
        found[name] = {"right": exhibit.when(right[exhibit.telling]), "broken": exhibit.when(broken[exhibit.telling])}
        if exhibit.fine:
            found[name] |= {"fine right": last(right[exhibit.fine]), "fine broken": last(broken[exhibit.fine])}
    lesson.save_figure(draw(shown), figure)
    return found


if __name__ == "__main__":
    lesson.run(
        main,
        file=__file__,
        doc=__doc__,
        flags={
            "steps": "steps of each training",
            "seed": "of everything",
            "exhibits": "bugs to show, with commas between them: " + ", ".join(EXHIBITS),
        },
        full={"steps": 200},
        full_time="two minutes",
        tries=[
            (
                "--steps 25",
                "every bug shows already: a KL of -8.5 nats instead of 1.6, and 3 % of the answers end instead of 99 %, "
                "with the higher score",
            ),
            (
                "--exhibits 'no EOS' --steps 120",
                "the score of the broken run is 1.39 instead of 0.79, and 0 % of its answers end: it never comes back",
            ),
            (
                "--exhibits 'wrong padding mask' --seed 1",
                "85.6 % right letters alone, 12.8 % beside eight tokens of padding; the right mask gives 85.6 % in any company",
            ),
        ],
    )

"""The curves by which a run of reinforcement or preference learning is judged, each with what to look for in it.

The over-optimisation curve is that of Gao et al. 2023, gold reward against d = √KL, the distance from where the policy
began:

    gold(d) - gold(0) = d (α - β log d)         rises while the reward model's advice is good, falls after d = exp(α/β - 1)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.report.chart import Line
from tinyllm.report.curves import WIDE, Curve, light_and_smooth, smooth, window_for
from tinyllm.report.page_charts import GREY, line_chart
from tinyllm.report.run_record import RunRecord, Series

DISTANCE = (
    Curve("kl", "KL (nats per answer)",
          "How far the policy is from the reference. Begins at 0 and climbs slowly. If it keeps below 0, the answers do not "
          "come from the policy that scores them.", "kl_target", "target"),
    Curve("kl_coefficient", "KL coefficient β",
          "What a nat of distance costs. A steered β rises while KL is above its target and falls while it is below.", bottom=0),
    Curve("entropy", "entropy (nats per token)",
          "How undecided the policy is. A slow fall is learning; at 0 it always says the same, and learning is over.", bottom=0),
)  # fmt: skip
WRITING = (
    Curve("length", "length (tokens)",
          "Mean length of an answer. A climb to the limit is what a reward without a price for length, or a missing stop token, "
          "leads to.", "max_new_tokens", "limit", bottom=0),
    Curve("finished", "finished answers (share)",
          "Answers that ended by themselves. Should stay near 1: an answer that was cut off was judged unfinished.", bottom=0),
    Curve("frac_zero_std", "prompts without a lesson (share)",
          "All answers to the prompt got the same score: too easy, or too hard. They cost time and teach nothing.", bottom=0),
)  # fmt: skip
UPDATES = (
    Curve("clip_fraction", "clip fraction",
          "Share of tokens whose probability moved further than the clip allows; a few per cent is healthy. Above 0.3 the steps "
          "are too large. Not 0 in a rollout's first step: sampling and update disagree.", bottom=0),
    Curve("ratio", "ratio π / π_old", "Mean over the tokens; it should keep close to 1.", 1.0),
    Curve("approx_kl", "KL from the policy that sampled",
          "In nats per token. How stale the answers have become by the end of a rollout; a spike is a step that went too far.",
          bottom=0),
    Curve("explained_variance", "explained variance of the value model",
          "1: it knows what an answer will be worth. 0: it knows the mean alone; where it stays there, more steps, a larger "
          "learning rate, or a value clip that fits the score's scale help. Below 0 it does harm.", 0.0, "knows the mean alone"),
    Curve("value_loss", "value loss",
          "Falls as the value model learns, and rises again as the policy finds better answers.", bottom=0),
)  # fmt: skip
PREFERENCES = (
    Curve("reward_accuracy", "accuracy",
          "Pairs in which the policy favours the chosen answer more than the reference does. About a half at first; near 1 on "
          "the training pairs it has begun to learn them by heart.", 0.5, "a coin"),
    Curve("reward_margin", "margin: chosen - rejected reward", "Begins at exactly 0 and grows.", 0.0),
    Curve("loss", "loss",
          "DPO begins at exactly ln 2 = 0.693, a coin's loss. Where the held-out loss (dots) turns upwards, the pairs are being "
          "learned by heart: stop there.", math.log(2), "ln 2", bottom=0, other="val_loss", labels=("training", "held out")),
    Curve("chosen_reward", "rewards β (log π - log π_ref)",
          "The chosen answers' may fall too while the margin grows, as long as that of the rejected falls faster.", 0.0,
          other="rejected_reward", labels=("chosen", "rejected")),
    Curve("chosen_log_prob", "log-probability (nats per answer)",
          "Usually both fall: the loss asks for a difference only, and what the rejected lose goes to answers in neither pile. "
          "A steep fall means that the policy unlearns to write: lower the learning rate, or raise β.",
          other="rejected_log_prob", labels=("chosen", "rejected")),
)  # fmt: skip


def reward_charts(run: RunRecord) -> str:
    """Score (in a band of its standard deviation) and gold reward against the step."""
    lines = light_and_smooth("", run.series("score"))
    spread = dict(zip(*run.series("score_std"), strict=True))
    banded = [(step, score, spread[step]) for step, score in zip(*run.series("score"), strict=True) if step in spread]
    if len(banded) > 1:
        steps, scores, stds = (list(column) for column in zip(*banded, strict=True))
        middle, std = (np.array(smooth(values, window_for(len(steps)))) for values in (scores, stds))
        lines = [Line("", steps + steps[::-1], [*(middle + std), *(middle - std)[::-1]], filled=True), *lines]
    return _side_by_side(lines, light_and_smooth("", run.series("gold"), 1), across="step")


def law_charts(run: RunRecord) -> str:
    """Score and gold reward against √KL, with the fitted form of Gao et al. and the distance at which it turns."""
    gold = against_distance(run, "gold")
    lines = light_and_smooth("smoothed", gold, 1, dots=True)
    law = fit_overoptimisation(*gold)
    if law is not None:
        distances = np.linspace(1e-3, max(gold[0]), 100)
        lines.append(Line("fit", distances.tolist(), law.at(distances).tolist(), GREY, dashed=True))
        if law.peak is not None and law.peak < distances[-1]:
            top = law.at(np.array([law.peak])).tolist()
            lines.append(Line("", [law.peak], top, GREY, dots=4.0, note=f"top of the fit: √KL = {law.peak:.2g}"))
    score = light_and_smooth("", against_distance(run, "score"), dots=True)
    return _side_by_side(score, lines, across="√KL, distance from the reference (√nats)")


def _side_by_side(score: list[Line], gold: list[Line], *, across: str) -> str:
    """A chart each, as their units have nothing to do with each other; if only one was measured, as wide as the page."""
    both = bool(score[0].xs and gold[0].xs)
    shown = ((score, "reward model's score" if both else "score"), (gold, "gold reward"))
    size = (490.0, 300.0) if both else WIDE
    charts = "".join(line_chart(lines, title=title, across=across, size=size) for lines, title in shown)
    return f'<div class="row two">{charts}</div>' if both else charts


def against_distance(run: RunRecord, name: str) -> Series:
    """(√KL, values of `name`) of the rollouts that have both, ordered by distance; an estimate below 0 counts as 0."""
    kl = dict(zip(*run.series("kl"), strict=True))
    points = sorted((math.sqrt(max(kl[step], 0)), value) for step, value in zip(*run.series(name), strict=True) if step in kl)
    return [distance for distance, _ in points], [value for _, value in points]


@dataclass(frozen=True)
class OveroptimisationLaw:
    """gold(d) = start + d (α - β log d), Gao et al. 2023, section 1."""

    start: float
    alpha: float
    beta: float

    def at(self, distance: np.ndarray) -> np.ndarray:
        """The gold reward at distances d > 0, same shape."""
        return self.start + distance * (self.alpha - self.beta * np.log(distance))

    @property
    def peak(self) -> float | None:
        """The distance with the most gold, where the slope α - β (1 + log d) is 0; None if it never turns."""
        return math.exp(min(self.alpha / self.beta - 1, 50)) if self.beta > 0 else None


def fit_overoptimisation(distances: Sequence[float], gold: Sequence[float]) -> OveroptimisationLaw | None:
    """Least squares; None for too few rollouts, or too little way, to tell three numbers.

    Every stretch of the way counts the same, however many rollouts were spent there (most at the end, where little changes).
    """
    d, y = np.array(distances), np.array(gold)
    if (d > 0.05).sum() < 8 or np.ptp(d) < 0.5:
        return None
    stretch = np.minimum((40 * d / d.max()).astype(int), 39)
    _, stretch, counts = np.unique(stretch, return_inverse=True, return_counts=True)
    d, y = (np.bincount(stretch, weights=values) / counts for values in (d, y))
    safe = np.maximum(d, 1e-6)
    columns = np.stack([np.ones_like(d), d, -d * np.log(safe)], axis=1)
    start, alpha, beta = (float(number) for number in np.linalg.lstsq(columns, y, rcond=None)[0])
    return OveroptimisationLaw(start, alpha, beta)

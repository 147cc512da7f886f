"""What stands out in a run: a few known troubles, each recognised by the numbers that betray it.

No rule here is certain; each says what was seen and where to look. They are what somebody who has trained many policies
looks at first: does the update begin at ratio 1, does the KL behave, do answers still end, does the truth follow the score?
"""

import math
import statistics
from collections.abc import Callable

from tinyllm.report.curves import per_rollout, smooth, window_for
from tinyllm.report.run_record import RunRecord, finite


def remarks(run: RunRecord) -> list[str]:
    """A sentence or two for each thing that stands out; empty if nothing does."""
    return [remark for rule in _RULES if (remark := rule(run))]


def _first_ratio(run: RunRecord) -> str | None:
    """Before any update the policy that learns is the one that sampled."""
    first = next((record for record in run.records if "rollout" in record), {})
    ratio, moved = finite(first.get("ratio")), finite(first.get("approx_kl"))
    if ratio is None or (abs(ratio - 1) < 1e-3 and abs(moved or 0) < 1e-4):
        return None
    return (
        f"The first update, before anything was learned, has a mean ratio of {ratio:.4g} and not 1: sampling and "
        "update do not compute the same probabilities. Compare their temperature, padding mask and positions, and "
        "look for dropout."
    )


def _negative_kl(run: RunRecord) -> str | None:
    values = run.series("kl")[1]
    later = values[len(values) // 4 :]
    if len(later) < 8:
        return None
    mean, error = statistics.fmean(later), statistics.stdev(later) / math.sqrt(len(later))
    if mean > -0.02 or mean + 3 * error > 0:
        return None
    return (
        f"KL keeps below 0 ({mean:.3g} nats per answer on average), which no divergence can: the answers do not come "
        "from the policy that scores them, or the difference is taken the wrong way round."
    )


def _kl_away(run: RunRecord) -> str | None:
    steps, values = run.series("kl")
    target = finite(run.setting("kl_target"))
    end = _end(values)
    if end is None or end < (4 * target if target else 50):
        return None
    aim = f"; the target was {target:g}" if target else ""
    far = "The policy is far from the text that the reward was learned on: raise the KL coefficient."
    return f"KL reached {end:.3g} nats per answer{aim}. {far}"


def _unfinished(run: RunRecord) -> str | None:
    values = run.series("finished")[1]
    end = _end(values)
    if end is None or end > 0.5 or end > values[0] - 0.1:
        return None
    return (
        f"{end:.0%} of the answers end by themselves; at first it was {values[0]:.0%}. Give answers without a stop "
        "token a score of their own (missing_stop_score), and check that the stop token is part of the answers that "
        "are learned from."
    )


def _collapsed(run: RunRecord) -> str | None:
    values = per_rollout(run, "entropy")[1]
    end = _end(values)
    if end is None or values[0] < 0.2 or end > values[0] / 20:
        return None
    meaning = "the policy always says the same, and learns nothing more"
    return f"Entropy fell from {values[0]:.2g} to {end:.2g} nats per token: {meaning}."


def _overoptimised(run: RunRecord) -> str | None:
    """Gold fell from its best while the score went on rising."""
    steps, gold = run.series("gold")
    scores = dict(zip(*run.series("score"), strict=True))
    if len(gold) < 10 or any(step not in scores for step in steps):
        return None
    window = window_for(len(gold)) + 1
    gold, score = smooth(gold, window), smooth([scores[step] for step in steps], window)
    best = max(range(len(gold)), key=gold.__getitem__)
    if gold[best] - gold[-1] < 0.2 * (gold[best] - gold[0]) or score[-1] <= score[best]:
        return None
    return (
        f"Over-optimised: the gold reward was best near step {steps[best]:,.0f} ({gold[best]:.3g}, at the end "
        f"{gold[-1]:.3g}) while the score went on rising. The policy of that step is the better one; a higher KL "
        "coefficient would have held it there."
    )


def _large_steps(run: RunRecord) -> str | None:
    end = _end(per_rollout(run, "clip_fraction")[1])
    if end is None or end < 0.3:
        return None
    return f"{end:.0%} of the tokens are clipped: the steps are too large. Lower the learning rate, or use fewer epochs."


def _useless_value(run: RunRecord) -> str | None:
    values = run.series("explained_variance")[1]
    end = _end(values)
    if end is None or len(values) < 10 or end > -0.05:
        return None
    advice = "Give it more steps, or a larger learning rate, before the policy moves."
    return f"The value model explains {end:.2g} of the returns' variance: worse than the mean alone. {advice}"


def _no_lessons(run: RunRecord) -> str | None:
    end = _end(run.series("frac_zero_std")[1])
    if end is None or end < 0.8:
        return None
    advice = "there is little left to learn. Choose harder (or easier) prompts."
    return f"For {end:.0%} of the prompts all answers get the same score: {advice}"


def _first_margin(run: RunRecord) -> str | None:
    """DPO begins at the reference, where every margin is 0 and the loss ln 2."""
    margins = run.series("reward_margin")[1]
    if not margins or abs(margins[0]) < 1e-3:
        return None
    return (
        f"The first margin is {margins[0]:.3g} and not 0: the policy does not begin as its reference, or the two are "
        "not scored alike (dropout, another mask)."
    )


def _falling_log_prob(run: RunRecord) -> str | None:
    values = run.series("chosen_log_prob")[1]
    end = _end(values)
    if end is None or len(values) < 10 or end > values[0] - max(5.0, 0.5 * abs(values[0])):
        return None
    return (
        f"The chosen answers' log-probability fell from {values[0]:.3g} to {end:.3g}. Some fall is usual, for the loss "
        "asks only for a difference; one this deep is worth reading samples for."
    )


def _end(values: list[float]) -> float | None:
    """Mean of the last tenth, None for no values."""
    return statistics.fmean(values[-max(1, len(values) // 10) :]) if values else None


_RULES: tuple[Callable[[RunRecord], str | None], ...] = (
    _first_ratio, _negative_kl, _kl_away, _unfinished, _collapsed, _overoptimised,
    _large_steps, _useless_value, _no_lessons, _first_margin, _falling_log_prob,
)  # fmt: skip

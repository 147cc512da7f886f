"""Learning-rate schedules: plain functions of the step, counted from 0.

Warm up, because Adam's averages know nothing yet in the first steps; come down at the end, because a large step cannot
settle in a narrow valley. Cosine (Loshchilov & Hutter 2017, eq. 5) must know the end from the start; warmup-stable-decay
(Hu et al. 2024, section 4) stays level and can be ended, by a short linear decay, whenever one likes.
"""

import math


def _warmup(step: int, warmup_steps: int) -> float:
    """From 1/(n+1) of the peak, linearly, to the peak at step n."""
    return min(1.0, (step + 1) / (warmup_steps + 1))


def constant(step: int, *, peak: float, warmup_steps: int = 0) -> float:
    """Warm up, then stay at `peak`."""
    return peak * _warmup(step, warmup_steps)


def warmup_cosine(step: int, *, peak: float, floor: float, warmup_steps: int, max_steps: int) -> float:
    """Warm up to `peak`, then half a cosine wave down to `floor` at `max_steps`; `floor` after it."""
    if step < warmup_steps:
        return peak * _warmup(step, warmup_steps)
    progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(
    step: int, *, peak: float, floor: float, warmup_steps: int, max_steps: int, decay_fraction: float = 0.1
) -> float:
    """Warm up to `peak`, stay, and come down linearly to `floor` over the last `decay_fraction` of the steps."""
    decay_steps = max(1, round(decay_fraction * max_steps))
    remaining = min(1.0, max(0.0, (max_steps - step) / decay_steps))
    return min(peak * _warmup(step, warmup_steps), floor + (peak - floor) * remaining)

"""The report of a run that learned from rewards or preferences: one HTML file, made like that of `report/run.py`.

It puts first what decides whether such a run can be believed. A score that rises proves only that the policy found what
the reward likes; so beside it stand the truth where it is known (the gold reward), the distance travelled for it (KL), what
the answers look like now, and the over-optimisation curve (Gao et al. 2023). What a run did not measure is left out.
"""

import math
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tinyllm.evaluation.before_after import BeforeAfter, read_comparisons
from tinyllm.report.curves import Curve, curve_row, per_rollout
from tinyllm.report.diagnosis import remarks
from tinyllm.report.page import cards, escaped, figure, numbers_below, page, section, table
from tinyllm.report.rl_curves import DISTANCE, PREFERENCES, UPDATES, WRITING, against_distance, law_charts, reward_charts
from tinyllm.report.run import about, duration, evenly, footnote, seconds_spent, settings_part, short, steps_done, write_page
from tinyllm.report.run_record import RunRecord, read_run

_MOST_PAIRS = 12
_MOST_CHARACTERS = 800  # of a prompt or an answer
_MOST_ROWS = 25

_REWARD_HINT = (
    "The score is what the policy is trained on. It must rise, but a rising score proves little: what matters is whether the "
    "gold reward, the truth that the score stands for, rises with it."
)
_NO_GOLD_HINT = (
    "What the policy is trained on. It must rise, but that alone proves little: read the answers, and have people (or a "
    "measure that was not trained on) compare them."
)
_LAW_HINT = (
    "The same rollouts, placed by how far the policy had gone from its reference. Near it, what pleases the reward model is "
    "really better; further away the policy finds the reward model's mistakes: the score goes on rising, the gold reward turns."
)
_LAW_CAPTION = (
    "Each dot is a rollout. The dashed line is the form that Gao et al. 2023 found for reinforcement learning, "
    "d (α - β log d), fitted to the gold reward. The best policy is the one with the most gold, not the last one."
)
_PAIRS_HINT = (
    "The same prompts answered before and after, from the largest gain to the largest loss where scores are known. Read the "
    "losses too, and ask of the gains whether you would have given them the higher score."
)
_TABLE_COLUMNS = {
    "score": "score", "gold": "gold", "KL": "kl", "β": "kl_coefficient", "entropy": "entropy", "length": "length",
    "finished": "finished", "clip fraction": "clip_fraction", "ratio": "ratio", "explained variance": "explained_variance",
}  # fmt: skip
_PREFERENCE_COLUMNS = {
    "loss": "loss", "held-out loss": "val_loss", "accuracy": "reward_accuracy", "margin": "reward_margin",
    "chosen reward": "chosen_reward", "rejected reward": "rejected_reward", "log π(chosen)": "chosen_log_prob",
    "log π(rejected)": "rejected_log_prob",
}  # fmt: skip

_STEPS = (
    Curve("loss", "loss",  # that of DPO is among its own curves
          "Says little here: it is measured on answers that change all the time. With one update per rollout it is about 0 by "
          "construction.", each_step=True),
    Curve("learning_rate", "learning rate", "The size of the steps.", bottom=0, each_step=True, noisy=False),
    Curve("grad_norm", "gradient norm", "Should keep its order of magnitude. A climb is an early sign of trouble.",
          "grad_clip", "clipped above", log=True, each_step=True),
)  # fmt: skip


def write_rl_report(run_folder: str | os.PathLike[str]) -> Path:
    """Write `run_folder`/report.html, whole or not at all, and return its path.

    For a run of PPO, GRPO, RLOO, REINFORCE or DPO. Reads metrics.jsonl, config.json and, if it is there, comparisons.jsonl
    (see `before_after.write_comparisons`); a gold reward is shown if it was logged as "gold". metrics.csv is written
    beside it. ValueError, saying what to do, if the folder holds no measurement.
    """
    run = read_run(run_folder)
    pairs, n_torn = read_comparisons(run_folder)
    return write_page(run, rl_report_page(run, pairs, n_torn=n_torn))


def rl_report_page(run: RunRecord, pairs: Sequence[BeforeAfter] = (), *, n_torn: int = 0) -> str:
    """The report as a whole HTML page. n_torn: lines of comparisons.jsonl that could not be read."""
    name = run.path.resolve().name
    line = " · ".join(part for part in (algorithm(run), about(run)) if part)
    found = [f'<p class="remark">{escaped(remark)}</p>' for remark in remarks(run)]
    return page(
        f"{name} · report",
        f'<h1>{escaped(name)}</h1>\n<p class="about">{escaped(line)}</p>',
        cards(headline(run, pairs)),
        section("What stands out", "Found by rules of thumb: each says where to look, none is a proof.", *found),
        section("Reward", _REWARD_HINT if run.series("gold")[1] else _NO_GOLD_HINT, _reward_part(run)),
        section("Over-optimisation", _LAW_HINT, _law_part(run)),
        section("Preferences", "How the policy sets the two answers of each pair apart.", _preference_part(run)),
        section("How far it went", "What the reward was paid for with.", curve_row(run, DISTANCE)),
        section("What it writes like now", "Ways of being paid without writing better show here.", curve_row(run, WRITING)),
        section("The updates", "Means over the steps of each rollout.", curve_row(run, UPDATES)),
        section("The steps", "As in any training.", curve_row(run, _STEPS if run.series("rollout")[1] else _STEPS[1:])),
        section("Before and after", _PAIRS_HINT, _pairs_part(pairs)),
        section("Settings", "All that is needed to do this run again.", settings_part(run)),
        footnote(run),
        f'<p class="note">{n_torn} of the lines in comparisons.jsonl could not be read.</p>' if n_torn else "",
    )


def algorithm(run: RunRecord) -> str:
    """Its name as the settings tell it, or as can be told from them; "" if it cannot."""
    for named in (run.setting("algorithm"), run.setting("method")):
        if isinstance(named, str):
            return named.upper()
    marks = (("value_clip", "PPO"), ("clip_high", "GRPO"), ("kl_coefficient", "REINFORCE or RLOO"))
    found = next((name for mark, name in marks if run.setting(mark) is not None), "")
    return found or ("preference optimisation" if run.series("reward_margin")[1] else "")


def headline(run: RunRecord, pairs: Sequence[BeforeAfter] = ()) -> list[tuple[str, str, str]]:
    """(number, what it is, remark) for the cards at the top; what the run does not tell is left out."""
    facts = [*_changes(run), *_held_out(run)]
    judge = _judge(pairs)
    if gains := [gain for pair in pairs if (gain := pair.gain(judge)) is not None]:
        better, by = sum(gain > 0 for gain in gains), "gold reward" if judge == "gold" else judge
        facts.append((f"{better / len(gains):.0%}", "answers improved", f"{better} of {len(gains)}, by the {by}"))
    if rollouts := run.series("rollout")[1]:
        sizes = [run.setting(name) for name in ("n_prompts", "group_size")]
        known = all(isinstance(n, int) for n in sizes)
        answers = f"{short(max(rollouts) * math.prod(sizes)).strip()} answers" if known else ""
        facts.append((f"{max(rollouts):,.0f}", "rollouts", ", ".join(filter(None, (answers, steps_done(run))))))
    if seconds := seconds_spent(run):
        facts.append((duration(seconds), "of training", "sampling included" if rollouts else steps_done(run)))
    return facts


def _changes(run: RunRecord) -> Iterable[tuple[str, str, str]]:
    """From the first to the last tenth of each measurement that a reader asks for first."""
    asked = {"score": "score", "gold": "gold reward", "kl": "KL, nats per answer", "length": "tokens per answer",
             "finished": "answers that end", "reward_accuracy": "pairs ordered rightly", "reward_margin": "margin"}  # fmt: skip
    for name, title in asked.items():
        if values := run.series(name)[1]:
            form = ".0%" if name in ("finished", "reward_accuracy") else ".3g"
            end = statistics.fmean(values[-max(1, len(values) // 10) :])
            yield f"{end:{form}}", title, f"{values[0]:{form}} at first"


def _held_out(run: RunRecord) -> Iterable[tuple[str, str, str]]:
    """The least loss on held-out pairs, and where it was; at its end a run may have begun to learn by heart."""
    steps, losses = run.series("val_loss")
    if losses:
        best = min(range(len(losses)), key=losses.__getitem__)
        last = "" if best == len(losses) - 1 else f"; {losses[-1]:.3f} at the end"
        yield f"{losses[best]:.3f}", "best held-out loss", f"at step {steps[best]:,.0f}{last}"


def _reward_part(run: RunRecord) -> str:
    """Score and gold as a figure, with the numbers of the rollouts in a table under it."""
    score, gold = bool(run.series("score")[1]), bool(run.series("gold")[1])
    if not (score or gold):
        return ""
    band = "The band is one standard deviation of the answers' scores. " * (len(run.series("score_std")[1]) > 1)
    caption = band + "Each has a scale of its own." * (score and gold)
    return numbers_below(figure(reward_charts(run), caption, wide=True), numbers_table(run, _TABLE_COLUMNS))


def _law_part(run: RunRecord) -> str:
    """Only with a gold reward, and if the policy has gone anywhere."""
    distances, gold = against_distance(run, "gold")
    if len(gold) < 3 or max(distances) < 0.1:
        return ""
    return numbers_below(figure(law_charts(run), _LAW_CAPTION, wide=True), law_table(run))


def law_table(run: RunRecord) -> str:
    """Score and gold reward along the way: the rollouts nearest to evenly spread distances, for most are at its end."""
    score, gold, kl = (dict(zip(*run.series(name), strict=True)) for name in ("score", "gold", "kl"))
    points = sorted((math.sqrt(max(kl[step], 0)), step) for step in kl.keys() & gold.keys())
    distances = np.array([distance for distance, _ in points])
    nearest = dict.fromkeys(int(abs(distances - d).argmin()) for d in np.linspace(0, distances[-1], _MOST_ROWS))
    rows = []
    for distance, step in (points[i] for i in nearest):
        rows.append((f"{distance:.2f}", f"{step:,.0f}", f"{score[step]:.3f}" if step in score else "", f"{gold[step]:.3f}"))
    return table(("√KL", "step", "score", "gold reward"), rows, n_text=0)


def _preference_part(run: RunRecord) -> str:
    """DPO's curves and numbers."""
    if not run.series("reward_margin")[1]:
        return ""
    return numbers_below(curve_row(run, PREFERENCES), numbers_table(run, _PREFERENCE_COLUMNS))


def numbers_table(run: RunRecord, columns: dict[str, str]) -> str:
    """Evenly spread rollouts (or steps), a column (title: name) for each measurement of the run; "" if there is none."""
    measured = ((title, per_rollout(run, name)) for title, name in columns.items())
    known = [(title, dict(zip(*series, strict=True))) for title, series in measured if series[1]]
    steps = evenly(sorted(set().union(*(values for _, values in known))), _MOST_ROWS) if known else []
    rows = [(f"{step:,.0f}", *(f"{values[step]:.4g}" if step in values else "" for _, values in known)) for step in steps]
    return table(("step", *(title for title, _ in known)), rows, n_text=0) if rows else ""


def _judge(pairs: Sequence[BeforeAfter]) -> str:
    return "gold" if any(pair.gain("gold") is not None for pair in pairs) else "score"


def _pairs_part(pairs: Sequence[BeforeAfter]) -> str:
    """A table of answers, those of the largest gain first."""
    judge = _judge(pairs)
    ordered = sorted(pairs, key=lambda pair: -(gain if (gain := pair.gain(judge)) is not None else 0))
    shown = evenly(ordered, _MOST_PAIRS)
    more = f'<p class="note">{len(shown)} of {len(pairs)} prompts.</p>' if len(shown) < len(pairs) else ""
    return pairs_table(pairs) + "\n".join(map(_pair, shown)) + more if shown else ""


def pairs_table(pairs: Sequence[BeforeAfter]) -> str:
    """Mean score and gold reward before and after, and their change with its standard error over prompts."""
    rows = []
    for judge, title in (("score", "score"), ("gold", "gold reward")):
        known = [pair for pair in pairs if pair.gain(judge) is not None]
        gains = [gain for pair in known if (gain := pair.gain(judge)) is not None]
        if gains:
            before, after = (statistics.fmean(getattr(pair, f"{judge}_{when}") for pair in known) for when in ("before", "after"))
            error = f" ± {statistics.stdev(gains) / math.sqrt(len(gains)):.2g}" if len(gains) > 1 else ""
            rows.append((title, f"{before:.3g}", f"{after:.3g}", f"{statistics.fmean(gains):+.3g}{error}", len(gains)))
    return table(("mean over prompts", "before", "after", "change", "prompts"), rows) if rows else ""


def _pair(pair: BeforeAfter) -> str:
    """One prompt, its two answers side by side, and what they were worth."""
    answers = "".join(
        f"<div><h3>{name}<small>{escaped(_worth(pair, name))}</small></h3><pre>{_shortened(getattr(pair, name))}</pre></div>"
        for name in ("before", "after")
    )
    return f'<div class="pair"><pre class="asked">{_shortened(pair.prompt)}</pre>{answers}</div>'


def _worth(pair: BeforeAfter, name: str) -> str:
    numbers = ((judge, getattr(pair, f"{judge}_{name}")) for judge in ("score", "gold"))
    return " · ".join(f"{judge} {value:.3g}" for judge, value in numbers if value is not None)


def _shortened(text: str) -> str:
    more = len(text) - _MOST_CHARACTERS
    return escaped(text if more <= 0 else f"{text[:_MOST_CHARACTERS]} … ({more:,} more characters)")

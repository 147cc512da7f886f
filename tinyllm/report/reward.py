"""The report of a reward model: how often it decides a held-out pair as the labelers did, and how sure it is when it does.

    loss = -log σ(r(chosen) - r(rejected)), in nats for each pair; ln 2 = 0.693 is a coin's

A reward model that is right 75 % of the time may be as good as can be: labelers disagree with themselves. So the page also
shows whether its confidence is earned (of the pairs it decides with 80 %, are 80 % right?), and pairs to read, the worst
mistakes among them. What was measured is kept in pairs.json of the run, so the page can be made again.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.models import RewardModel
from tinyllm.report.curves import WIDE, light_and_smooth, smooth, window_for
from tinyllm.report.page import cards, escaped, figure, page, section, table
from tinyllm.report.page_charts import bar, line_chart
from tinyllm.report.page_charts import held_out as held_out_line
from tinyllm.report.run import about, duration, evenly, footnote, seconds_spent, settings_part, short, steps_done, write_page
from tinyllm.report.run_record import RunRecord, read_run
from tinyllm.rlhf.comparisons import ComparedAnswers
from tinyllm.rlhf.reward_model import calibrate, compare_pairs, pair_accuracy, score_sequences
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.storage import strict_json, write_file
from tinyllm.tokenizers.chat_templates import Chat

FILE_NAME = "pairs.json"
COIN = float(np.log(2))
_MOST_PAIRS = 12
_N_BINS = 5
_LOSS_HINT = (
    "Each pair once, so the loss falls within a single pass: the line is the training loss, smoothed, the dot the loss on "
    "pairs of held-out prompts. Far below on training pairs alone, the model has learned the labelers' slips by heart."
)
_SURE_HINT = (
    "Held-out pairs by how sure the model was of its decision. Right as often as it was sure: its differences can be believed, "
    "and PPO's advantages with them. Sure and wrong: more pairs, or fewer steps."
)
_PAIRS_HINT = (
    "Of some held-out prompts the pair that was hardest for the model, from the clearest right decision to the clearest wrong "
    "one. Read the last ones: who is wrong, the model or the labeler?"
)


def measure_pairs(model: RewardModel, held_out: Sequence[ComparedAnswers], *, chat: Chat) -> dict[str, Any]:
    """Loss, accuracy, calibration and some pairs in words, of comparisons that were not trained on.

    The loss and the confidence are on the scale the model was trained with, whatever `normalise` has made of it since.
    """
    differences = compare_pairs(model, held_out).astype(np.float64) / float(model.gain.data[0])
    accuracy, error = pair_accuracy(differences)
    table_of_sureness = calibrate(differences, n_bins=_N_BINS)
    bins = zip(table_of_sureness.counts, table_of_sureness.confidence, table_of_sureness.accuracy, strict=True)
    return {
        "n_prompts": len(held_out),
        "n_pairs": len(differences),
        "loss": float(np.logaddexp(0, -differences).mean()),
        "accuracy": accuracy,
        "standard_error": error,
        "calibration": [{"n": int(n), "confidence": float(p), "accuracy": float(a)} for n, p, a in bins if n],
        "examples": _examples(model, held_out, chat),
    }


def _examples(model: RewardModel, held_out: Sequence[ComparedAnswers], chat: Chat) -> list[dict[str, Any]]:
    """One pair of each of some prompts, in words with their rewards, the clearest right decision first."""
    found = []
    for group in evenly(list(held_out), _MOST_PAIRS):
        rewards = score_sequences(model, pad_sequences([group.prompt] * len(group.answers), group.answers)).tolist()
        chosen, rejected = min(group.pairs.tolist(), key=lambda pair: rewards[pair[0]] - rewards[pair[1]])
        texts = {"prompt": _said(chat, group.prompt), "chosen": _said(chat, group.answers[chosen]),
                 "rejected": _said(chat, group.answers[rejected])}  # fmt: skip
        found.append({**texts, "chosen_reward": rewards[chosen], "rejected_reward": rewards[rejected]})
    return sorted(found, key=lambda one: one["rejected_reward"] - one["chosen_reward"])


def _said(chat: Chat, ids: Sequence[int]) -> str:
    return chat.decode(ids).encode("utf-8", "replace").decode()


def write_reward_report(run_folder: str | os.PathLike[str], measured: dict[str, Any] | None = None) -> Path:
    """Write `run_folder`/report.html and metrics.csv; pairs.json if `measured` (of `measure_pairs`) is given. The page's path.

    ValueError, saying what to do, if the folder holds no measurement.
    """
    run = read_run(run_folder)
    if measured is not None:
        write_file(run.path / FILE_NAME, strict_json.dump(measured, indent=1))
    return write_page(run, reward_page(run, read_pairs(run.path)))


def read_pairs(run_folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What `measure_pairs` had measured; {} where there is no such file, or no readable one."""
    schema = {
        "n_prompts": int, "n_pairs": int, "loss": float, "accuracy": float, "standard_error": float,
        "calibration": [{"n": int, "confidence": float, "accuracy": float}],
        "examples": [{"prompt": str, "chosen": str, "rejected": str, "chosen_reward": float, "rejected_reward": float}],
    }  # fmt: skip
    try:
        return strict_json.read(Path(run_folder) / FILE_NAME, schema=schema)
    except (strict_json.FormatError, OSError):
        return {}


def reward_page(run: RunRecord, measured: dict[str, Any]) -> str:
    """The page as HTML. measured: of `measure_pairs`, or {} before the end of training."""
    name = run.path.resolve().name
    return page(
        f"{name} · report of a reward model",
        f'<h1>{escaped(name)}</h1>\n<p class="about">{escaped(f"A reward model · {about(run)}")}</p>',
        cards(_facts(run, measured)),
        section("Loss", _LOSS_HINT, _loss(run, measured)),
        section("How sure, and how often right", _SURE_HINT, _calibration(measured)),
        section("What it prefers", _PAIRS_HINT, *map(_pair, measured.get("examples", ()))),
        section("Settings", "All that is needed to do this run again.", settings_part(run)),
        footnote(run),
    )


def _facts(run: RunRecord, measured: dict[str, Any]) -> list[tuple[str, str, str]]:
    facts = []
    if measured:
        error, count = measured["standard_error"], f"{measured['n_pairs']:,} pairs of {measured['n_prompts']:,} prompts"
        facts.append((f"{measured['accuracy']:.1%}", "of held-out pairs decided as labelers did", f"± {error:.1%}, {count}"))
        facts.append((f"{measured['loss']:.3f}", "held-out loss", f"nats per pair; a coin's is {COIN:.3f}"))
    if values := run.series("loss")[1]:
        last = smooth(values, window_for(len(values)))[-1]
        facts.append((f"{last:.3f}", "training loss at the end", "nats per pair"))
    if run.n_parameters:
        facts.append((short(run.n_parameters), "parameters", "a language model's, and one row for the reward"))
    if seconds := seconds_spent(run):
        facts.append((duration(seconds), "of training", steps_done(run)))
    return facts


def _loss(run: RunRecord, measured: dict[str, Any]) -> str:
    lines = light_and_smooth("training", run.series("loss"))
    if measured and lines[0].xs:
        lines.append(held_out_line(lines[0].xs[-1:], [measured["loss"]]))
    drawn = line_chart(lines, title="loss (nats per pair)", level=(COIN, "a coin: ln 2"), size=WIDE)
    return figure(drawn, wide=True) if drawn else ""


def _calibration(measured: dict[str, Any]) -> str:
    """How sure and how often right, as bars, with the number of pairs."""
    if not measured:
        return ""
    body = []
    for one in measured["calibration"]:
        sure, right = bar(one["confidence"], colour=None), bar(one["accuracy"])
        body.append(
            f'<tr><td class="bars">{sure}<span>{one["confidence"]:.0%}</span></td>'
            f'<td class="bars">{right}<span>{one["accuracy"]:.0%}</span></td><td class="number">{one["n"]:,}</td></tr>'
        )
    head = '<tr><th>it was sure</th><th>it was right</th><th class="number">pairs</th></tr>'
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(body)}</tbody></table></div>'


def _pair(one: dict[str, Any]) -> str:
    """A prompt, and its two answers with their rewards."""
    rows = [(who, one[who], f"{one[f'{who}_reward']:.2f}") for who in ("chosen", "rejected")]
    right = one["chosen_reward"] > one["rejected_reward"]
    verdict = "The model decides as the labeler did." if right else "The model decides the other way."
    shown = table(("labeler", "answer", "reward"), rows, n_text=2)
    return f'<p class="story">{escaped(one["prompt"])}</p>{shown}<p class="note">{verdict}</p>'

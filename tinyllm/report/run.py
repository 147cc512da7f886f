"""The report of a run: one HTML file that shows how the training went and tells a reader what to look for.

It needs nothing beside itself: style and drawings are inside, nothing is loaded, nothing runs, so it can be mailed,
printed, or opened in ten years. Made from the run folder alone, at any time, also for a run that was stopped or that
failed. metrics.csv is written beside it, for other tools.
"""

import csv
import io
import math
import os
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tinyllm.evaluation.held_out_answers import read_answers
from tinyllm.evaluation.perplexity import exp_or_inf
from tinyllm.report.curves import WIDE, Curve, curve_row, light_and_smooth, smooth, window_for
from tinyllm.report.page import cards, escaped, figure, numbers_below, page, section, table
from tinyllm.report.page_charts import best, held_out, line_chart
from tinyllm.report.run_record import RunRecord, finite, read_run
from tinyllm.storage import atomic

_MOST_SAMPLES = 8
_MOST_SAMPLE_CHARACTERS = 1200
_MOST_TABLE_ROWS = 25

_LOSS_HINT = (
    "Both curves should fall, fast at first and then ever more slowly. Where validation turns upwards while training goes "
    "on falling, the model has begun to learn its training text by heart."
)
_ANSWERS_HINT = (
    "Held-out questions, what the demonstration answers, and what the model does, always taking the likeliest token. Right is "
    "only the same answer word for word: fair where one answer is right, too strict where many are."
)
_SMALL_FIGURES = (
    Curve("learning_rate", "learning rate",
          "The size of the steps: up during warm-up, then down. The last part of the loss's fall often comes with the decay.",
          bottom=0, noisy=False),
    Curve("grad_norm", "gradient norm",
          "Should settle after warm-up. A spike is an odd batch; many spikes, or a steady climb, mean too large a learning rate.",
          "grad_clip", "clipped above", log=True),
    Curve("tokens_per_second", "tokens per second",
          "Should be flat. Dips are evaluations, checkpoints, or other programs on the same machine.", bottom=0),
)  # fmt: skip


def write_report(run_folder: str | os.PathLike[str]) -> Path:
    """Write `run_folder`/report.html, whole or not at all, and metrics.csv beside it for a spreadsheet; the report's path.

    Raises ValueError, saying what to do, if the folder does not exist or holds no measurement yet.
    """
    run = read_run(run_folder)
    return write_page(run, report_page(run))


def write_page(run: RunRecord, html: str) -> Path:
    """A run's report, whole or not at all, and its metrics for a spreadsheet; the report's path."""
    for name, text in (("report.html", html), ("metrics.csv", metrics_csv(run))):
        atomic.write_file(run.path / name, text.encode("utf-8"))
    return run.path / "report.html"


def report_page(run: RunRecord) -> str:
    """The report as a whole HTML page."""
    name = run.path.resolve().name
    return page(
        f"{name} · training report",
        f'<h1>{escaped(name)}</h1>\n<p class="about">{escaped(about(run))}</p>',
        cards(headline(run)),
        section("Loss", _LOSS_HINT, _loss_part(run)),
        section("On the way", "Three curves to look at when the loss does something odd.", curve_row(run, _SMALL_FIGURES)),
        section("What it answers", _ANSWERS_HINT, _answers(run)),
        section("What it wrote", _samples_hint(run), *_samples(run)),
        section(
            "What it read",
            "Each row of a batch comes from one source, picked by its proportion. Epochs say how often a source was read; "
            "beyond about four, repeated text teaches less than new text would.",
            _mixture_table(run.mixture),
        ),
        section("Settings", "All that is needed to do this run again.", settings_part(run)),
        footnote(run),
    )


def about(run: RunRecord) -> str:
    """The model's shape and the machine, in a line."""
    shape = [
        f"{run.setting(name):,} {word}"
        for name, word in (("n_layers", "layers"), ("n_heads", "heads"), ("d_model", "wide"), ("block_size", "tokens of context"))
        if isinstance(run.setting(name), int)
    ]
    threads = str(run.environment.get("threads", ""))
    machine = [run.environment.get("processor"), threads and f"{threads} thread{'' if threads == '1' else 's'}"]
    return " · ".join(filter(None, [", ".join(shape), *(str(part) for part in machine if part)])) or "A training run"


def headline(run: RunRecord) -> list[tuple[str, str, str]]:
    """(number, what it is, remark) for the cards at the top; what the run does not tell is left out."""
    facts = [*_answered_right(run), *_quality(run)]
    tokens = run.series("tokens_seen")[1]
    if run.n_parameters:
        facts.append((short(run.n_parameters), "parameters", f"{run.n_parameters:,} numbers learned"))
    if tokens:
        ratio = f", {max(tokens) / run.n_parameters:,.1f} for each parameter" if run.n_parameters else ""
        facts.append((f"{short(max(tokens))}", "tokens seen", f"in {steps_done(run)}{ratio}"))
    if seconds := seconds_spent(run):
        speeds = run.series("tokens_per_second")[1]
        speed = f"{statistics.median(speeds):,.0f} tokens per second" if speeds else ""
        facts.append((duration(seconds), "of training", speed))
    return facts


def steps_done(run: RunRecord) -> str:
    """As "60 of 90 steps" if the run has more before it."""
    last, planned = run.records[-1]["step"], run.setting("max_steps")
    return f"{last:,} of {planned:,} steps" if isinstance(planned, int) and last < planned else f"{last:,} steps"


def _quality(run: RunRecord) -> Iterable[tuple[str, str, str]]:
    """The best validation loss in its three units, or the last training loss where nothing was held out."""
    steps, losses = run.series("val_loss")
    if not losses:
        values = run.series("loss")[1]
        if values:
            smoothed = smooth(values, window_for(len(values)))[-1]
            yield f"{smoothed:.3f}", "training loss at the end", "smoothed, nats per token"
        return
    best = min(losses)
    yield f"{best:.3f}", "best validation loss", f"nats per token, at step {steps[losses.index(best)]:,.0f}"
    perplexity = exp_or_inf(best)
    yield f"{perplexity:,.4g}", "perplexity", "as unsure as among this many equally likely tokens"
    if run.tokens_per_byte:
        bits = best / math.log(2) * run.tokens_per_byte
        yield f"{bits:.3f}", "bits per byte", "comparable between tokenizers; 8 is no knowledge at all"


def _answered_right(run: RunRecord) -> Iterable[tuple[str, str, str]]:
    """Of a run that learned to answer: how often it does, on what was held out."""
    found, _ = read_answers(run.path)
    if found:
        yield f"{found.accuracy:.1%}", "held-out questions answered right", f"± {found.standard_error:.1%}, {found.n} asked"


def _answers(run: RunRecord) -> str:
    """A table of answers, those that are wrong first: they teach more."""
    answers = sorted(read_answers(run.path)[1], key=lambda one: one.right)
    rows = [(one.question, one.expected, one.answer or "(nothing)", "right" if one.right else "wrong") for one in answers]
    return table(("question", "demonstration", "the model", ""), rows, n_text=4) if rows else ""


def seconds_spent(run: RunRecord) -> float:
    """Time spent in steps and evaluations: waiting between a stop and a resume is not in it."""
    steps = sum(run.series("ms_per_step")[1]) / 1000
    if not steps:
        times = run.series("time")[1]
        return max(times) - min(times) if times else 0.0
    return steps + sum(run.series("seconds")[1])


def _loss_part(run: RunRecord) -> str:
    """The loss as a figure, with its numbers in a table under it."""
    validation = held_out(*run.series("val_loss"), name="validation")
    lines = [*light_and_smooth("training", run.series("loss")), validation, *([best(validation)] if validation.xs else [])]
    drawn = line_chart(lines, title="loss (nats per token)", level=guessing_blindly(run), size=WIDE)
    return numbers_below(figure(drawn, wide=True), _loss_table(run)) if drawn else ""


def guessing_blindly(run: RunRecord) -> tuple[float, str] | None:
    """The loss of who knows nothing, and how it comes about."""
    vocab_size = run.setting("vocab_size")
    if not isinstance(vocab_size, int) or vocab_size < 2:
        return None
    return math.log(vocab_size), f"guessing blindly: ln {vocab_size:,} = {math.log(vocab_size):.2f}"


def _loss_table(run: RunRecord) -> str:
    """Training loss (mean since the row before), validation loss and perplexity at evaluations, or evenly spaced steps."""
    steps, losses = run.series("loss")
    validation = dict(zip(*run.series("val_loss"), strict=True))
    rows, start = [], 0
    for step in evenly(sorted(validation) or steps, _MOST_TABLE_ROWS):
        end = max((i + 1 for i in range(start, len(steps)) if steps[i] <= step), default=start)
        mean = f"{statistics.fmean(losses[start:end]):.4f}" if end > start else ""
        held_out = (f"{validation[step]:.4f}", f"{exp_or_inf(validation[step]):,.4g}") if step in validation else ("", "")
        rows.append((f"{step:,.0f}", mean, *held_out))
        start = end
    return table(("step", "training loss (mean)", "validation loss", "perplexity"), rows, n_text=0) if rows else ""


def _samples_hint(run: RunRecord) -> str:
    shown, count = min(len(run.samples), _MOST_SAMPLES), len(run.samples)
    choice = f" ({shown} of {count} samples.)" if shown < count else ""
    return (
        "The same prompt at several steps: watch for letters becoming words, words becoming phrases, and phrases becoming "
        f"sentences that belong together.{choice}"
    )


def _samples(run: RunRecord) -> list[str]:
    parts = []
    for sample in evenly([s for s in run.samples if isinstance(s.get("text"), str)], _MOST_SAMPLES):
        text = sample["text"]
        cut = f" … ({len(text) - _MOST_SAMPLE_CHARACTERS:,} more characters)" if len(text) > _MOST_SAMPLE_CHARACTERS else ""
        prompt = escaped(sample["prompt"]) if isinstance(sample.get("prompt"), str) else ""
        warmth = finite(sample.get("temperature"))
        remark = f"<small>temperature {warmth:g}</small>" if warmth is not None else ""
        body = f"<mark>{prompt}</mark>{escaped(text[:_MOST_SAMPLE_CHARACTERS] + cut)}"
        parts.append(f'<div class="sample"><h3>step {sample["step"]:,}{remark}</h3><pre>{body}</pre></div>')
    return parts


def _mixture_table(rows: list[dict[str, Any]]) -> str:
    """LLaMA's Table 1."""

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        proportion, epochs, tokens, size = (finite(row.get(key)) for key in ("proportion", "epochs", "tokens", "bytes"))
        return (
            str(row.get("name", "")),
            "" if proportion is None else f"{proportion:.1%}",
            "" if epochs is None else f"{epochs:,.2f}",
            "" if tokens is None else f"{tokens:,.0f}",
            "" if size is None else f"{short(size)}B",
        )

    header = ("data set", "sampling proportion", "epochs", "tokens", "disk size")
    return table(header, [cells(row) for row in rows]) if rows else ""


def settings_part(run: RunRecord) -> str:
    """A small table for each group of settings; settings without a group come first."""
    single = {key: value for key, value in run.settings.items() if not isinstance(value, dict)}
    groups = [("run", single), *((k, v) for k, v in run.settings.items() if isinstance(v, dict))]
    groups.append(("environment", run.environment))
    parts = [
        f"<section><h3>{escaped(name)}</h3>{table((), [(k, _plain(v)) for k, v in values.items()], n_text=2)}</section>"
        for name, values in groups
        if values
    ]
    return f'<div class="settings">{"".join(parts)}</div>' if parts else ""


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool | None):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value[:12]}…" if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else str(value)  # a sha256


def footnote(run: RunRecord) -> str:
    """How many lines of the run could not be read, if any."""
    if not run.n_unreadable:
        return ""
    lines = "1 line" if run.n_unreadable == 1 else f"{run.n_unreadable:,} lines"
    reason = "could not be read, so the report goes without; a crash can tear the last line"
    return f'<p class="note">{lines} of metrics.jsonl and samples.jsonl {reason}.</p>'


def evenly(items: list[Any], count: int) -> list[Any]:
    """At most `count` of the items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def short(number: float) -> str:
    """A count with three digits and its unit: 12,345,678 is 12.3 M."""
    for unit in ("", "k", "M", "G"):
        if abs(number) < 999.5:
            return f"{number:.3g} {unit}" if unit else f"{number:.3g} "
        number /= 1000
    return f"{number:,.3g} T"


def duration(seconds: float) -> str:
    """A time in its two largest units: 4 min 7 s."""
    whole = round(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit, smaller, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {small_unit}"
    return f"{whole} s"


def metrics_csv(run: RunRecord) -> str:
    """All measurements as comma-separated values: one line a record, a column for each number that any record has."""
    measured = dict.fromkeys(key for record in run.records for key, value in record.items() if finite(value) is not None)
    names = [name for name in measured if name.isidentifier()]  # a spreadsheet runs a cell that begins with "="
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for record in run.records:
        writer.writerow([record[name] if finite(record.get(name)) is not None else "" for name in names])
    return text.getvalue()

"""The page at the end of `tinyllm quickstart`: four models side by side, what they wrote, and the way to each stage's report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinyllm.cli.assistant import Row
from tinyllm.data.news import Story
from tinyllm.evaluation.page import cards, escaped, page, section, table
from tinyllm.storage import write_file

STAGES = (
    ("base", "pre-training", "loss on the next token, samples on the way, the mixture"),
    ("tuned", "demonstrations", "loss on the assistant's words"),
    ("reward", "the reward model", "loss on pairs of answers"),
    ("improved", "PPO", "score, true reward, KL, entropy, length, answers before and after"),
)
_HINT = (
    "Mean and standard error; differences below two standard errors may be chance. Tasks right: exact answers to "
    "held-out tasks. True reward: what the labeler truly thinks of the summaries, 3.5 at best. Reward model: what "
    "the model of the labeler thinks, 0 for the average summary of the tuned model. If the last rises and the true "
    "reward does not, the policy has learned to please the model."
)


def write_page(out: Path, rows: Sequence[Row], stories: Sequence[Story]) -> None:
    """Write `out`/report.html."""
    write_file(out / "report.html", journey_page(out.resolve().name, rows, stories).encode("utf-8"))


def journey_page(name: str, rows: Sequence[Row], stories: Sequence[Story]) -> str:
    """The page as HTML."""
    best = max(rows, key=lambda row: row.gold[0])
    tuned, last = rows[1], rows[-1]
    facts = [
        (f"{tuned.tasks[0]:.0%}", "of held-out tasks right", f"after demonstrations; {rows[0].tasks[0]:.0%} before"),
        (f"{last.gold[0]:.2f}", "true reward of the assistant's summaries", f"{tuned.gold[0]:.2f} before PPO"),
        (best.name, "wrote the best summaries", f"true reward {best.gold[0]:.2f} ± {best.gold[1]:.2f}"),
    ]
    return page(
        f"{name} · from text to assistant",
        f'<h1>{escaped(name)}</h1>\n<p class="about">From raw text to an assistant shaped by feedback</p>',
        cards(facts),
        section("What each step was good for", _HINT, _models(rows)),
        section("What they wrote", "The same stories, unseen in training, summarised by each model.", *_examples(rows, stories)),
        section("The stages", "Each has a report of its own, with its curves and settings.", _links()),
    )


def _models(rows: Sequence[Row]) -> str:
    header = ("model", "tasks right", "true reward", "reward model", "words")
    cells = [
        (
            row.name,
            f"{100 * row.tasks[0]:.1f} ± {100 * row.tasks[1]:.1f} %",
            *(f"{mean:.2f} ± {error:.2f}" for mean, error in (row.gold, row.score)),
            f"{row.words:.1f}",
        )
        for row in rows
    ]
    return table(header, cells)


def _examples(rows: Sequence[Row], stories: Sequence[Story]) -> list[str]:
    parts = []
    for i, story in enumerate(stories[: len(rows[0].examples)]):
        answers = [(row.name, row.examples[i] or "(nothing)") for row in rows]
        parts.append(f"<h3>{escaped(story.paragraph)}</h3>{table((), answers, n_text=2)}")
    return parts


def _links() -> str:
    items = "".join(
        f'<li><a href="{folder}/report.html">{escaped(title)}</a>: {escaped(what)}</li>' for folder, title, what in STAGES
    )
    return f"<ul>{items}</ul>"

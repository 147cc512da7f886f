"""The page at the end of `tinyllm quickstart`: what each step was good for, in figures, curves, and one story told by all models.

Each figure stands once: the table has the comparison, the cards what it was made from. The curves are read from the folders
of the stages; a stage that left none is left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tinyllm.data.tasks.gold import gold_reward
from tinyllm.data.tasks.news import Story
from tinyllm.labels.items import read_items
from tinyllm.recipes.compare import Row
from tinyllm.report.curves import light_and_smooth
from tinyllm.report.page import cards, escaped, figure, page, section, table
from tinyllm.report.page_charts import bar, held_out, line_chart
from tinyllm.report.reward import COIN
from tinyllm.report.rl_curves import law_charts
from tinyllm.report.run import duration, guessing_blindly, seconds_spent, short, steps_done
from tinyllm.report.run_record import RunRecord, read_run
from tinyllm.storage import write_file

STAGES = (
    ("base", "pre-training", "loss on the next token, samples on the way, the mixture"),
    ("tuned", "demonstrations", "loss on the assistant's words, its answers to held-out questions"),
    ("reward", "the reward model", "held-out pairs, how sure it is and how often right"),
    ("improved", "PPO", "score, true reward, KL, entropy, length, answers before and after"),
)
_HINT = (
    "Mean and standard error; differences below two standard errors may be chance. Tasks right: exact answers to "
    "held-out tasks. True reward: what the labeler truly thinks of the summaries, 3.5 at best. Reward model: what "
    "the model of the labeler thinks, 0 for the average summary of the tuned model. If the last rises and the true "
    "reward does not, the policy has learned to please the model."
)
_STORY_HINT = (
    "The same story, unseen in training, summarised by each model, and what the labeler truly thinks of it. The base model "
    "goes on with the text; demonstrations teach it to answer; feedback teaches which answers are good."
)
_LOSS_HINT = (
    "Training loss of each step (light), smoothed, and the loss on what was held out (dots). Each is in nats a guess: at a "
    "token, at a token of the assistant's, at a pair of answers."
)
_KL_HINT = (
    "Each dot is a round of 64 answers, placed by how far the policy had gone from the tuned model. The reward model's score and "
    "the true reward have units of their own; as long as they rise together, the reward model's advice is good."
)


def write_page(out: Path, rows: Sequence[Row], stories: Sequence[Story]) -> None:
    """Write `out`/report.html."""
    runs = {stage: run for stage, _, _ in STAGES if (run := _run(out / stage)) is not None}
    write_file(out / "report.html", journey_page(out, rows, stories, runs=runs).encode("utf-8"))


def journey_page(out: Path, rows: Sequence[Row], stories: Sequence[Story], *, runs: Mapping[str, RunRecord]) -> str:
    """The page as HTML. runs: the stages' records, by folder."""
    name = out.resolve().name
    return page(
        f"{name} · from text to assistant",
        f'<h1>{escaped(name)}</h1>\n<p class="about">From raw text to an assistant shaped by feedback</p>',
        cards(_facts(out, runs)),
        section("What each step was good for", _HINT, _models(rows)),
        section("One story, told by all", _STORY_HINT, *_stories(rows, stories)),
        section("What it learned to answer", "Held-out tasks right, by kind; the line is one standard error.", _kinds(rows)),
        section("How the losses fell", _LOSS_HINT, _losses(runs)),
        section("What PPO was paid, and how far it went for it", _KL_HINT, _reward_against_kl(runs.get("improved"))),
        section("The stages", "Each has a report of its own, with its curves and settings.", _links()),
    )


def _run(folder: Path) -> RunRecord | None:
    try:
        return read_run(folder)
    except ValueError:
        return None


def _facts(out: Path, runs: Mapping[str, RunRecord]) -> list[tuple[str, str, str]]:
    """What the models were made from."""
    facts = []
    base, improved = runs.get("base"), runs.get("improved")
    if base and base.n_parameters:
        facts.append((short(base.n_parameters), "parameters", "GPT-2 in small; GPT-2 has 124 million"))
    if base and (tokens := base.series("tokens_seen")[1]):
        facts.append((short(max(tokens)), "tokens of text read", f"pre-training, {steps_done(base)}"))
    items = out / "labels" / "items.jsonl"
    if items.exists():
        counts = [len(item.answers) for item in read_items(items)]
        facts.append((f"{sum(counts):,}", "answers rated", f"to {len(counts):,} stories, by the simulated labeler"))
    if improved and (rounds := improved.series("rollout")[1]):
        facts.append((f"{max(rounds):,.0f}", "rounds of PPO", steps_done(improved)))
    if seconds := sum(map(seconds_spent, runs.values())):
        facts.append((duration(seconds), "of training", "all stages, sampling included"))
    return facts


def _models(rows: Sequence[Row]) -> str:
    header = ("model", "tasks right", "true reward", "reward model", "words")
    cells = [
        (
            row.name,
            "as tuned" if "best of" in row.name else f"{100 * row.tasks[0]:.1f} ± {100 * row.tasks[1]:.1f} %",
            *(f"{mean:.2f} ± {error:.2f}" for mean, error in (row.gold, row.score)),
            f"{row.words:.1f}",
        )
        for row in rows
    ]
    return table(header, cells)


def _stories(rows: Sequence[Row], stories: Sequence[Story]) -> list[str]:
    """The first story in full sight, the others folded away."""
    told = [_told(rows, story, i) for i, story in enumerate(stories[: min(len(row.examples) for row in rows)])]
    more = f"<details><summary>{len(told) - 1} more stories</summary>{''.join(told[1:])}</details>" if told[1:] else ""
    return [*told[:1], more]


def _told(rows: Sequence[Row], story: Story, i: int) -> str:
    answers = [(row.name, row.examples[i] or "(nothing)", f"{gold_reward(story, row.examples[i]):.2f}") for row in rows]
    return f'<p class="story">{escaped(story.paragraph)}</p>{table(("model", "its summary", "true reward"), answers, n_text=2)}'


def _kinds(rows: Sequence[Row]) -> str:
    """A row for each kind of task, a bar for each model that was tuned."""
    shown = [row for row in rows[1:] if row.by_kind and "best of" not in row.name]
    if not shown:
        return ""
    head = "".join(f"<th>{escaped(row.name)}</th>" for row in shown)
    body = []
    for kind in shown[0].by_kind:
        cells = []
        for row, colour in zip(shown, (0, 1), strict=False):
            found = row.by_kind[kind]
            drawn = bar(found.accuracy, colour=colour, error=found.standard_error)
            cells.append(f'<td class="bars">{drawn}<span>{found.accuracy:.0%}</span></td>')
        body.append(f"<tr><td>{escaped(kind)}</td>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr><th>kind</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _losses(runs: Mapping[str, RunRecord]) -> str:
    drawn = []
    for stage, title, _ in STAGES[:3]:
        if run := runs.get(stage):
            level = (COIN, "a coin: ln 2") if stage == "reward" else guessing_blindly(run)
            lines = [*light_and_smooth("training", run.series("loss")), held_out(*run.series("val_loss"))]
            drawn.append(figure(line_chart(lines, title=title, level=level)))
    return f'<div class="row">{"".join(drawn)}</div>' if drawn else ""


def _reward_against_kl(run: RunRecord | None) -> str:
    return figure(law_charts(run), wide=True) if run and run.series("kl")[1] else ""


def _links() -> str:
    items = "".join(
        f'<li><a href="{folder}/report.html">{escaped(title)}</a>: {escaped(what)}</li>' for folder, title, what in STAGES
    )
    return f"<ul>{items}</ul>"

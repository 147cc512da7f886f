"""What each step of `tinyllm quickstart` was good for, as a table and as results.json, from which pages and scripts read it.

{"suggestions": [{"question", "answer"}, ...],
 "rows": [{"name": "PPO", "tasks": {"mean", "standard_error"}, "by_kind": {"spell": {"n_right", "n"}},
                               "true_reward": {...}, "reward_model": {...}, "words": 13.2}, ...]}
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyllm.data.tasks.instructions import Instruction
from tinyllm.recipes.compare import Row
from tinyllm.storage import strict_json, write_file

FILE = "results.json"


def table(rows: Sequence[Row]) -> str:
    """The rows as text, each mean with its standard error."""
    lines = [f"{'':<16}  {'tasks right':>16}  {'true reward':>16}  {'reward model':>16}  {'words':>6}"]
    for row in rows:
        tasks = f"{100 * row.tasks[0]:.1f} ± {100 * row.tasks[1]:.1f} %"
        gold, score = (f"{mean:.2f} ± {error:.2f}" for mean, error in (row.gold, row.score))
        lines.append(f"{row.name:<16}  {tasks:>16}  {gold:>16}  {score:>16}  {row.words:>6.1f}")
    return "\n".join(lines)


def kinds(row: Row) -> str:
    """How one model did on each kind of task, best first, as text."""
    ordered = sorted(row.by_kind.items(), key=lambda item: -item[1].accuracy)
    return ", ".join(f"{name} {one.n_right} of {one.n}" for name, one in ordered)


def write_results(out: Path, rows: Sequence[Row], suggestions: Sequence[Instruction]) -> None:
    """Write `out`/results.json."""
    questions = [{"question": one.prompt[-1]["content"], "answer": one.answer} for one in suggestions]
    content = {"suggestions": questions, "rows": [_as_json(row) for row in rows]}
    write_file(out / FILE, strict_json.dump(content, indent=1))


def _as_json(row: Row) -> dict[str, Any]:
    means = {"tasks": row.tasks, "true_reward": row.gold, "reward_model": row.score}
    return {
        "name": row.name,
        **{name: {"mean": mean, "standard_error": error} for name, (mean, error) in means.items()},
        "by_kind": {kind: {"n_right": one.n_right, "n": one.n} for kind, one in row.by_kind.items()},
        "words": row.words,
    }

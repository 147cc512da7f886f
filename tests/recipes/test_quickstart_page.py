"""The front page of quickstart: curves, kinds, one story told by all, and no figure said twice."""

import json
import re

import pytest
from hostile_pages import DRAWN, HARMLESS, Tags

from tinyllm.data.tasks.news import make_stories
from tinyllm.evaluation.exact_match import ExactMatch
from tinyllm.recipes.compare import Row
from tinyllm.recipes.quickstart_page import write_page

NAMES = ("base", "tuned (SFT)", "SFT, best of 8", "PPO")
STORIES = make_stories(3, split="test", seed=1)


def rows():
    kinds = {"spell": ExactMatch(35, 40), "sort": ExactMatch(25, 40)}
    return [
        Row(name, (0.1 + i / 10, 0.017), kinds, (i - 0.59, 0.05), (i + 0.125, 0.04), 10.5 + i,
            [f"summary {i} of {s}" for s in range(3)])
        for i, name in enumerate(NAMES)
    ]  # fmt: skip


def run(folder, **curves):
    folder.mkdir(parents=True)
    lines = [{"event": "step", "step": i, "ms_per_step": 500.0, **{name: value(i) for name, value in curves.items()}}
             for i in range(1, 31)]  # fmt: skip
    lines += [{"event": "evaluation", "step": i, "val_loss": 6.0 - i / 10} for i in (10, 20, 30)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def journey(tmp_path):
    out = tmp_path / "journey"
    for stage in ("base", "tuned", "reward"):
        run(out / stage, loss=lambda i: 7 - i / 10, tokens_seen=lambda i: 2048 * i)
    run(out / "improved", loss=lambda i: 0.1, score=lambda i: i / 10, gold=lambda i: 1 - i / 20, kl=lambda i: i / 7,
        rollout=lambda i: i)  # fmt: skip
    return out


def test_loss_kinds_reward_against_kl_and_one_story_are_shown(journey):
    write_page(journey, rows(), STORIES)
    markup = (journey / "report.html").read_text("utf-8")
    found = Tags(markup)
    assert found.tags <= HARMLESS | DRAWN | {"ul", "li", "a"}
    assert markup.count('role="img"') == 5, "three losses, and score and gold against KL"
    assert markup.count("<circle") >= 60 + 6, "a dot for each round's score and gold, and for each held-out loss"
    for expected in ("spell", "88%", "62%", "reward model's score", "distance from the reference", "2 more stories"):
        assert expected in found.text, expected
    story = markup.index(STORIES[0].paragraph[:20])
    places = [markup.index(f"summary {i} of 0") for i in range(4)]
    assert story < places[0] and places == sorted(places), "one story, through all four models in their order"


def test_no_figure_is_said_twice(journey):
    write_page(journey, rows(), STORIES)
    markup = (journey / "report.html").read_text("utf-8")
    head, rest = markup.split("<h2>", 1)
    cards = re.findall(r"<b>(.*?)</b>", head)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", rest)
    assert len(set(cards)) == len(cards) >= 3 and not set(cards) & set(cells)
    for row in rows():
        for mean, error in (row.gold, row.score):
            assert markup.count(f"{mean:.2f} ± {error:.2f}") == 1
        assert markup.count(f"{100 * row.tasks[0]:.1f} ± ") == ("best of" not in row.name), "picking is for summaries only"


def test_a_stage_without_measurements_leaves_its_part_out(tmp_path):
    (tmp_path / "bare").mkdir()
    write_page(tmp_path / "bare", rows(), STORIES)
    text = Tags((tmp_path / "bare" / "report.html").read_text("utf-8")).text
    assert "How the losses fell" not in text and "What PPO was paid" not in text and "One story, told by all" in text

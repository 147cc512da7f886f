import re

import numpy as np
import pytest

from tinyllm.report import plots
from tinyllm.report import rl_curves as curves
from tinyllm.report.rl_curves import fit_overoptimisation, per_rollout
from tinyllm.report.run_record import RunRecord

NO_SETTINGS = dict(environment={}, samples=[], mixture=[], n_parameters=None, tokens_per_byte=None, n_unreadable=0)


def run_of(tmp_path, records, **settings):
    return RunRecord(path=tmp_path, settings=settings, records=records, **NO_SETTINGS)


def ppo_records(n_rollouts=30, epochs=4):
    """A run that over-optimises: the gold reward is best halfway."""
    for step in range(n_rollouts * epochs):
        late = step % epochs
        record = {"step": step + 1, "clip_fraction": 0.1 * late, "ratio": 1 + 0.01 * late, "approx_kl": 0.001, "value_loss": 0.5}
        record |= {"entropy": 2 - step / 100, "loss": 0.0}
        if step % epochs == 0:
            way = step / (n_rollouts * epochs)
            record |= {"rollout": step // epochs + 1, "score": 4 * way, "score_std": 0.3, "gold": way * (1 - way)}
            record |= {"kl": 20 * way, "length": 10 + 20 * way, "finished": 1 - way / 9, "kl_coefficient": 0.05}
            record |= {"explained_variance": way}
        yield record


ALL = (*curves.DISTANCE, *curves.WRITING, *curves.UPDATES)


def test_updates_are_averaged_over_each_rollout(tmp_path):
    run = run_of(tmp_path, list(ppo_records(3)))
    steps, values = per_rollout(run, "clip_fraction")
    assert steps == [1, 5, 9]
    np.testing.assert_allclose(values, 0.15)
    assert per_rollout(run, "score")[0] == [1, 5, 9]


def test_without_rollouts_every_step_is_a_point(tmp_path):
    run = run_of(tmp_path, [{"step": 1, "loss": 2.0}, {"step": 2}, {"step": 3, "loss": 1.0}])
    assert per_rollout(run, "loss") == ([1, 3], [2, 1])
    assert per_rollout(run, "score") == ([], [])


def test_steps_before_the_first_rollout_of_a_log_are_kept(tmp_path):
    run = run_of(tmp_path, [{"step": 4, "ratio": 1.5}, {"step": 5, "rollout": 2, "ratio": 1.0}])
    assert per_rollout(run, "ratio") == ([4, 5], [1.5, 1.0])


def test_distance_is_the_root_of_kl_and_an_estimate_below_zero_is_zero(tmp_path):
    measured = ((1, -0.1, 1.0), (2, 9.0, 2.0), (3, 4.0, 3.0), (4, 1.0, None))
    records = [{"step": step, "kl": kl, "gold": gold} for step, kl, gold in measured]
    assert curves.against_distance(run_of(tmp_path, records), "gold") == ([0, 2, 3], [1, 3, 2])


def test_the_law_is_found_again_in_data_made_from_it():
    distance = np.linspace(0, 5, 60)
    law = curves.OveroptimisationLaw(0.3, 1.2, 0.7)
    found = fit_overoptimisation(distance, law.at(np.maximum(distance, 1e-9)))
    np.testing.assert_allclose([found.start, found.alpha, found.beta], [0.3, 1.2, 0.7], atol=0.03)
    grid = np.linspace(0.01, 5, 5000)
    assert found.peak == pytest.approx(grid[law.at(grid).argmax()], rel=0.05)


def test_a_thousand_rollouts_at_one_place_do_not_outvote_the_way_there():
    law = curves.OveroptimisationLaw(0.0, 1.0, 0.8)
    distance = np.concatenate([np.linspace(0.1, 4, 40), np.full(1000, 4.0)])
    gold = law.at(distance)
    gold[40:] += 0.5  # they are all off
    assert fit_overoptimisation(distance, gold).peak == pytest.approx(law.peak, rel=0.15)


def test_too_little_way_is_no_law():
    assert fit_overoptimisation([], []) is None
    assert fit_overoptimisation([1.0, 2.0], [1.0, 2.0]) is None
    assert fit_overoptimisation(np.linspace(2, 2.3, 50), np.ones(50)) is None
    rising = fit_overoptimisation(np.linspace(0, 3, 50), np.linspace(0, 3, 50) ** 2)
    assert rising.peak is None


@pytest.mark.parametrize("n_records", [1, 2, 120])
def test_figures_use_the_colours_of_the_page_alone(tmp_path, n_records):
    pytest.importorskip("matplotlib")
    run = run_of(tmp_path, list(ppo_records())[:n_records], max_new_tokens=48, kl_target=6.0)
    drawings = [(name, drawing) for name, drawing, names, _ in curves.figures(ALL) if run.series(*names)[1]]
    drawings += [("reward", curves.draw_reward), ("law", curves.draw_overoptimisation)]
    assert len(drawings) == 12
    for name, drawing in drawings:
        svg = plots.draw(name, drawing, run=run, size=(4, 3))
        assert svg.startswith("<svg ") and "var(--train)" in svg
        assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#ffffff"}


def test_score_and_gold_may_come_alone(tmp_path):
    pytest.importorskip("matplotlib")
    for name, colour, other in (("score", "--train", "--validation"), ("gold", "--validation", "--train")):
        run = run_of(tmp_path, [{"step": i, name: i / 2, "kl": i} for i in range(9)])
        for drawing in (curves.draw_reward, curves.draw_overoptimisation):
            svg = plots.draw("a", drawing, run=run, size=(4, 3))
            assert f"var({colour})" in svg and f"var({other})" not in svg


def test_an_axis_of_zeros_is_not_a_thousandth_high(tmp_path):
    pytest.importorskip("matplotlib")
    run = run_of(tmp_path, [{"step": i, "clip_fraction": 0.0} for i in range(9)])
    assert ">1<" in re.sub(r"\s*\n\s*", "", plots.draw("a", curves.figures(curves.UPDATES)[0][1], run=run, size=(4, 3)))

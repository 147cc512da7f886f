import json
import math

import numpy as np
import pytest
from hostile_pages import DRAWN, HARMLESS, PAYLOADS, Tags

from tinyllm.evaluation.before_after import BeforeAfter, write_comparisons
from tinyllm.models import GPT, GPTConfig
from tinyllm.report import write_report
from tinyllm.report.rl import algorithm, headline, law_table, write_rl_report
from tinyllm.report.run_record import read_run
from tinyllm.rlhf.grpo import GRPO, GRPOConfig
from tinyllm.training import TrainConfig, open_run, train


def write_run(folder, metrics, settings=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    (folder / "config.json").write_text(json.dumps({"settings": settings or {}, "environment": {}}))
    return folder


def ppo_metrics(n_rollouts=20, epochs=2):
    for step in range(n_rollouts * epochs):
        record = {"event": "step", "step": step + 1, "loss": -0.01, "learning_rate": 1e-5, "grad_norm": 1.0, "ms_per_step": 500.0}
        record |= {"clip_fraction": 0.04 * (step % epochs), "ratio": 1.0, "approx_kl": 0.0, "entropy": 2.0, "tokens_seen": 9}
        if step % epochs == 0:
            way = step / (n_rollouts * epochs)
            record |= {"rollout": step // epochs + 1, "score": way, "score_std": 1.0, "gold": 3 * way - 4 * way**2, "kl": 9 * way}
            record |= {"length": 12.5, "finished": 0.75, "kl_coefficient": 0.05, "explained_variance": 0.5}
        yield record


def dpo_metrics(n=20):
    for step in range(n):
        pair = {"reward_margin": step / 9, "reward_accuracy": 0.5 + step / 50}
        pair |= {"chosen_reward": -step / 9, "rejected_reward": -step / 5}
        pair |= {"chosen_log_prob": -20.0 - step / 9, "rejected_log_prob": -20.0 - step / 3}
        yield {"event": "step", "step": step + 1, "loss": math.log(2) - step / 99, "grad_norm": 1.0, "learning_rate": 1e-6} | pair


ROLLOUT = {"value_clip": 0.2, "n_prompts": 64, "group_size": 1, "max_new_tokens": 48}
PPO_SETTINGS = {"rollout": ROLLOUT, "training": {"max_steps": 40}}


def test_a_report_shows_the_run_and_loads_nothing(tmp_path):
    run = write_run(tmp_path / "my ppo", ppo_metrics(), PPO_SETTINGS)
    write_comparisons(run, [BeforeAfter("a prompt", "the old answer", "the new\n  answer", -1.0, 2.0, 0.5, 1.25)])
    path = write_rl_report(run)
    assert path == run / "report.html"
    markup = path.read_text(encoding="utf-8")
    found = Tags(markup)
    assert found.tags - HARMLESS <= DRAWN
    assert not {"src", "srcset", "xlink:href", "onload", "onerror"} & found.names
    assert "http://" not in markup and "https://" not in markup and "@import" not in markup
    expected = ["my ppo", "PPO", "75%", "12.5", "20 s", "1.28 k answers, 40 steps", "a prompt", "the old answer"]
    expected += ["the new\n  answer", "score -1 · gold 0.5", "score 2 · gold 1.25", "1 of 1, by the gold reward"]
    expected += ["Over-optimised", "max_new_tokens"]
    assert [text for text in expected if text not in found.text] == []
    assert (run / "metrics.csv").exists()
    assert "explained variance of the value model" in found.text and markup.count("The numbers") == 2
    assert markup.count("<svg ") == 2 + 2 + 3 + 2 + 4 + 3, "reward, law, distance, writing, updates, steps"
    assert "Preferences" not in found.text


def test_the_tables_have_the_numbers_of_the_rollouts(tmp_path):
    text = Tags(write_rl_report(write_run(tmp_path, ppo_metrics(2))).read_text()).text
    assert "scoregoldKLβentropylengthfinishedclip fractionratioexplained variance" in text
    assert "3" + "0.5" + "0.5" + "4.5" + "0.05" + "2" + "12.5" + "0.75" + "0.02" + "1" + "0.5" in text  # the rollout of step 3


def test_the_numbers_of_the_law_are_those_of_single_rollouts(tmp_path):
    """Two rollouts at distance 0 (one estimate is below it) must not be mixed up, and the way is spread evenly."""
    measured = [(1, 0.0, -0.5, 0.1), (2, -0.01, 0.5, 0.2), *((step, 9.0, 1.0, 0.9) for step in range(3, 99)), (99, 4.0, 0.7, 0.8)]
    records = [{"step": step, "kl": kl, "score": score, "gold": gold} for step, kl, score, gold in measured]
    text = Tags(law_table(read_run(write_run(tmp_path, records)))).text.split()
    assert text == ["√KLstepscoregold", "reward", "0.001-0.5000.100", "2.00990.7000.800", "3.0031.0000.900"]


def test_dpo_has_its_own_part_and_no_reward(tmp_path):
    run = write_run(tmp_path, dpo_metrics(), {"dpo": {"algorithm": "DPO", "beta": 0.1}})
    text = Tags(write_rl_report(run).read_text()).text
    assert "Preferences" in text and "pairs ordered rightly" in text and "DPO" in text
    assert "Over-optimisation" not in text and "How far it went" not in text and "rollouts" not in text
    assert "ln 2" in text and "log-probability (nats per answer)" in text
    assert "log π(chosen)" in text.split("The numbers")[1], "folded under the curves"


def test_nothing_from_a_run_becomes_markup(tmp_path):
    for number, payload in enumerate(PAYLOADS):
        settings = {payload: {payload: payload}, "algorithm": payload, "n_layers": payload}
        run = write_run(tmp_path / f"{number} {payload.replace('/', '')}", ppo_metrics(12), settings)
        write_comparisons(run, [BeforeAfter(payload, payload, payload, 1.0, 2.0), BeforeAfter(payload, payload, payload)])
        with open(run / "comparisons.jsonl", "a") as file:
            file.write(json.dumps({"prompt": payload, "before": payload, "after": payload, "score_before": payload}))
        found = Tags(write_rl_report(run).read_text(encoding="utf-8"))
        assert found.tags <= HARMLESS | DRAWN
        assert not [name for name in found.names if name.startswith("on") or name in ("srcdoc", "src")]
        assert found.text.count(payload) >= 11


@pytest.mark.parametrize("missing", ["score", "gold", "kl", "rollout", "entropy", "length"])
def test_what_is_missing_leaves_its_part_out(tmp_path, missing):
    metrics = [{key: value for key, value in record.items() if key != missing} for record in ppo_metrics()]
    text = Tags(write_rl_report(write_run(tmp_path, metrics)).read_text()).text
    assert ("Over-optimisation" in text) == (missing not in ("gold", "kl"))
    assert "Reward" in text


def test_a_single_rollout_and_a_diverged_run_have_a_report(tmp_path):
    assert write_rl_report(write_run(tmp_path / "a", list(ppo_metrics())[:1])).exists()
    broken = [record | {"score": 10.0**i, "gold": -(10.0**i), "kl": 1e30, "ratio": 0.0} for i, record in enumerate(ppo_metrics())]
    assert write_rl_report(write_run(tmp_path / "b", broken)).exists()


def test_a_run_without_measurements_leaves_no_report(tmp_path):
    with pytest.raises(ValueError, match="holds no measurements"):
        write_rl_report(write_run(tmp_path, []))
    assert not (tmp_path / "report.html").exists()


def test_torn_lines_are_told(tmp_path):
    run = write_run(tmp_path, ppo_metrics(3))
    (run / "comparisons.jsonl").write_text('{"prompt": "p", "bef')
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 99, "sco')
    text = Tags(write_rl_report(run).read_text()).text
    assert "1 of the lines in comparisons.jsonl" in text and "1 line of metrics.jsonl" in text


def test_comparisons_come_in_the_order_of_their_gain_few_of_many(tmp_path):
    pairs = [BeforeAfter(f"<{i}>", "x" * 900, "b", 0.0, float(i % 37)) for i in range(37)]
    write_comparisons(write_run(tmp_path, ppo_metrics(3)), pairs)
    markup = write_rl_report(tmp_path).read_text()
    assert markup.count('class="pair"') == 12 and markup.index("&lt;36&gt;") < markup.index("&lt;0&gt;")
    assert "12 of 37 prompts" in markup and "100 more characters" in markup
    gains = np.arange(37)
    assert f"{gains.mean():+.3g} ± {gains.std(ddof=1) / math.sqrt(37):.2g}" in markup


def test_answers_are_judged_by_gold_where_it_is_known(tmp_path):
    run = read_run(write_run(tmp_path, ppo_metrics(3)))
    pairs = [BeforeAfter("p", "a", "b", 0.0, 1.0, 1.0, 0.0), BeforeAfter("p", "a", "b", 0.0, 1.0, 0.0, 0.5)]
    assert ("50%", "answers improved", "1 of 2, by the gold reward") in headline(run, pairs)


@pytest.mark.parametrize(
    "setting, name", [("value_clip", "PPO"), ("clip_high", "GRPO"), ("kl_coefficient", "REINFORCE or RLOO"), ("x", "")]
)
def test_the_algorithm_is_told_by_its_settings(tmp_path, setting, name):
    assert algorithm(read_run(write_run(tmp_path, ppo_metrics(3), {"rollout": {setting: 0.2}}))) == name


def test_the_report_of_a_training_run_is_not_confused_by_a_run_of_rewards(tmp_path):
    """metrics.jsonl holds other numbers too, loss may be negative, and tokens and evaluations may be missing."""
    text = Tags(write_report(write_run(tmp_path, ppo_metrics(), PPO_SETTINGS)).read_text()).text
    assert "training loss at the end" in text and "40 steps" in text
    assert "perplexity" not in text.split("Loss")[0]


def test_a_run_of_grpo_has_all_its_parts(tmp_path):
    config = GPTConfig(vocab_size=9, block_size=16, n_layers=1, n_heads=1, d_model=8)
    policy, reference = (GPT(config, rng=np.random.default_rng(0)) for _ in range(2))
    rollout = GRPOConfig(n_prompts=2, group_size=4, max_new_tokens=6, minibatch_size=8)
    training = TrainConfig(max_steps=6, eval_interval=0, checkpoint_interval=0)

    def reward(samples):
        grpo.note(gold=np.mean([sample.finished for sample in samples]))
        return [float(len(sample.response)) for sample in samples]

    rng = np.random.default_rng(1)
    grpo = GRPO(policy, [[1, 2], [3]], reward, config=rollout, stop_id=0, rng=rng, reference=reference)
    with open_run(tmp_path / "run", settings={"training": training, "model": config, "rollout": rollout}) as run:
        for _ in train(policy, grpo, config=training, loss_fn=grpo.loss, measure=grpo.measure, run=run):
            pass
    text = Tags(write_rl_report(tmp_path / "run").read_text()).text
    parts = ("GRPO · 1 layers", "score", "gold reward", "KL, nats per answer", "tokens per answer", "answers that end", "6 steps")
    assert [part for part in (*parts, "minibatch_size") if part not in text] == []

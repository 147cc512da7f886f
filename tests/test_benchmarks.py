"""Benchmarks run too: one that is broken when it is wanted is no benchmark."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyllm import kernels

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name: str):
    return importlib.import_module(f"benchmarks.{name}")


def test_the_nanogpt_recipe_learns(tmp_path):
    words = np.random.default_rng(0).choice(["to be ", "or not ", "the question\n", "that is "], 2000)
    (tmp_path / "text.txt").write_text("".join(words), encoding="utf-8")
    few, more = (load("shakespeare_char").main(str(tmp_path / "text.txt"), steps=n)["validation_loss"] for n in (2, 25))
    assert more < few < np.log(40)


def test_validation_is_the_mean_over_all_held_out_tokens_also_of_a_last_smaller_batch():
    module = load("shakespeare_char")
    from tinyllm.data import EvaluationWindows
    from tinyllm.models import GPT, GPTConfig

    ids = np.random.default_rng(1).integers(0, 11, 7 * 8 + 1)
    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layers=1, n_heads=1, d_model=8), rng=np.random.default_rng(2))
    together = module.validation_loss(model, EvaluationWindows(ids, batch_size=7, block_size=8))
    in_pieces = module.validation_loss(model, EvaluationWindows(ids, batch_size=3, block_size=8))
    assert abs(together - in_pieces) < 1e-6


def run(*arguments: str) -> str:
    """What a benchmark prints, run as its docstring says, from a folder that knows nothing of the project."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(BENCHMARKS / arguments[0]), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=BENCHMARKS.parents[1], timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_train_step_checks_the_losses_and_tells_speed_and_memory():
    text = run("train_step.py", "--quick", "--no-compile")
    assert len(re.findall(r"losses of the first steps, +tinyllm( +\d\.\d{5}){3}", text)) == 1
    assert re.findall(r"pair +(\d+): tinyllm \d+\.\d\d ms", text) == ["1", "2"]
    assert re.search(r"^quick tinyllm +\d+\.\d\d +[\d,]+ +\d+ +\d+%", text, re.MULTILINE)


def test_generate_checks_the_tokens_and_tells_speed_and_bound():
    text = run("generate.py", "--quick")
    assert len(re.findall(r"the same tokens \(\d+ different", text)) == 2
    assert re.findall(r"^batch (\d) tinyllm +\d+\.\d +\d+ +\d+%", text, re.MULTILINE) == ["1", "3"]


def test_rollout_checks_the_answers_and_tells_the_rate():
    text = run("rollout.py", "--quick")
    assert "likeliest answers: the same tokens" in text
    assert re.findall(r"pair +(\d+): tinyllm [\d,]+ tokens/s", text) == ["1", "2"]
    assert re.search(r"^quick tinyllm +[\d,]+", text, re.MULTILINE)


def test_ppo_iteration_checks_the_scores_and_tells_the_time():
    text = run("ppo_iteration.py", "--quick")
    assert "the same log-probabilities and rewards for 4 texts" in text
    assert re.findall(r"pair +(\d+): tinyllm \d+\.\d\d s", text) == ["1", "2"]
    assert re.search(r"^quick tinyllm +\d+\.\d\d", text, re.MULTILINE)


def test_a_checkout_beside_itself_computes_the_same():
    text = run("before_after.py", str(BENCHMARKS.parent), "--quick")
    rows = re.findall(r"^(\w+ quick) +\d+\.\d\d \(", text, re.MULTILINE)
    assert rows == ["train_step quick", "generate quick", "rollout quick", "ppo quick"]


def test_prompts_of_a_rollout_have_all_lengths_of_the_range():
    rollout = load("rollout")
    lengths = sorted(map(len, rollout.ragged_prompts(8, (2, 9), 50)))
    assert lengths == [2, 3, 4, 5, 6, 7, 8, 9]


class Answers:
    """A worker that says what it was told to."""

    def __init__(self, tokens, **scores):
        self.tokens, self.scores = tokens, scores

    def ask(self, action, **arguments):
        if action == "generate":
            return {"tokens": self.tokens, "log_probs": [[-1.0]] * len(self.tokens)}
        return self.scores.get("found", self.scores)


def test_other_answers_stop_the_race_of_rollouts():
    check = load("rollout").check_answers
    with pytest.raises(SystemExit, match="other generates other tokens in 1 of 2 rows"):
        check({"tinyllm": Answers([[1], [2]]), "other": Answers([[1], [3]])}, [[5], [6]], new=1)
    same = {"tinyllm": Answers([[1], [2]], found=[[-1.0], [-1.0]]), "other": Answers([[1], [2]])}
    check(same, [[5], [6]], new=1)
    same["tinyllm"].scores["found"] = [[-1.0], [-1.1]]
    with pytest.raises(SystemExit, match="log-probabilities are off by up to 0.1"):
        check(same, [[5], [6]], new=1)


def test_other_scores_stop_the_race_of_ppo():
    check = load("ppo_iteration").check_scores
    workers = {side: Answers([], log_probs=[-1.0, -2.0], rewards=[0.1, 0.2]) for side in ("tinyllm", "trl")}
    check(workers, [[5], [6]], new=3, vocab_size=9)
    for wrong in (0.21, float("nan")):
        workers["trl"].scores["rewards"] = [0.1, wrong]
        with pytest.raises(SystemExit, match="trl has other rewards"):
            check(workers, [[5], [6]], new=3, vocab_size=9)


def test_growth_measures_every_subject_and_draws_it(tmp_path):
    text = run("growth.py", "--quick", "--plot", str(tmp_path / "growth.png"))
    axes = re.findall(r"^(?:attention|generating|training).*, by (.*)$", text, re.MULTILINE)
    assert [name.split()[0] for name in axes] == ["length", "tokens", "width", "batch", "layers", "threads"]
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(kernels.backend() == "numpy", reason="the NumPy twin of attention keeps all scores")
def test_the_attention_of_twice_the_length_takes_twice_the_memory_not_four_times():
    growth = load("growth")
    subject = growth.Subject("attention", "length", (256, 512, 1024), 2, 1)
    growth.compile_kernels(threads=1)
    points = growth.measure("length", subject, threads=1, total=0.0)
    assert 0.8 < growth.exponent(points.values, points.n_bytes) < 1.3


def test_an_exponent_is_the_slope_on_logarithmic_axes():
    growth = load("growth")
    assert abs(growth.exponent([1, 2, 4], [3, 12, 48]) - 2) < 1e-12
    assert np.isnan(growth.exponent([1], [1])) and np.isnan(growth.exponent([1, 2], [0, 1]))
    assert np.allclose(growth.straight_line([1, 2, 3], [5, 7, 9]), [3, 2, 0])


def test_losses_that_differ_stop_the_race():
    train_step = load("train_step")
    assert train_step.check_losses({"tinyllm": [4.0, 3.0], "eager": [4.0, 3.001]}) < 1e-3
    for other in (3.01, float("nan")):
        with pytest.raises(SystemExit, match="do not compute the same"):
            train_step.check_losses({"tinyllm": [4.0, 3.0], "eager": [4.0, other]})


def test_other_tokens_stop_the_race_except_those_of_int8():
    generate = load("generate")
    answers = {"tinyllm": {"tokens": [[1, 2, 3]]}, "transformers": {"tokens": [[1, 2, 3]]}, "int8": {"tokens": [[9, 9, 9]]}}
    generate.check_tokens(answers)
    with pytest.raises(SystemExit, match="after 2 new ones"):
        generate.check_tokens({**answers, "transformers": {"tokens": [[1, 2, 4]]}})


def test_sides_take_turns_and_the_order_is_turned_round():
    side_by_side = load("side_by_side")
    called: list[str] = []
    turns = {name: lambda name=name: called.append(name) or float(len(called)) for name in "ab"}
    rounds = list(side_by_side.take_turns(turns, rounds=2))
    assert called == ["a", "b", "b", "a"]
    assert rounds == [{"a": 1.0, "b": 2.0}, {"a": 4.0, "b": 3.0}]


def test_a_worker_answers_tells_its_errors_and_ends(tmp_path):
    side_by_side = load("side_by_side")
    (tmp_path / "worker.py").write_text(
        "import sys\n"
        f"sys.path[0] = {str(BENCHMARKS.parent)!r}\n"
        "from benchmarks.side_by_side import serve\n"
        "def shout(text):\n"
        "    print('not an answer')\n"
        "    return text.upper()\n"
        "serve({'shout': shout, 'fail': lambda: {}['key'], 'end': lambda: sys.exit(3)})\n"
    )
    with side_by_side.Worker(str(tmp_path / "worker.py"), threads=1) as worker:
        assert worker.ask("shout", text="hello") == "HELLO"
        with pytest.raises(side_by_side.WorkerError, match="KeyError: 'key'"):
            worker.ask("fail")
        assert worker.ask("shout", text="again") == "AGAIN"
        with pytest.raises(side_by_side.WorkerError, match="exit code 3.*'end'"):
            worker.ask("end")


def test_int8_costs_little_perplexity_and_saves_most_of_the_memory(tmp_path):
    words = np.random.default_rng(0).choice(["to be ", "or not ", "the question\n", "that is "], 2000)
    (tmp_path / "text.txt").write_text("".join(words), encoding="utf-8")
    result = load("int8").main(str(tmp_path / "text.txt"), steps=25)
    assert result["float32"] < 20 and abs(result["loss"]) < 0.01 and result["agreement"] > 0.9
    assert result["int8_bytes"] < 0.3 * result["float32_bytes"]

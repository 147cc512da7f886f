"""Every example runs, with few steps, and shows the fact it was written for; its figure is the committed one but for numbers."""

import importlib.util
import inspect
import math
import re
import runpy
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what an example leaves stays here
    monkeypatch.syspath_prepend(str(ROOT / "examples"))  # as when it is run as a script


def load(stem: str):
    (path,) = [p for p in EXAMPLES if p.name.startswith(stem)]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks its own module up
    spec.loader.exec_module(module)
    return module


def headings(svg: str) -> list[str]:
    """The titles of a figure and its panels, with # for every number."""
    elements = [element for element in ElementTree.fromstring(svg).iter() if "head" in element.get("class", "").split()]
    return [re.sub(r"\d[\d,.]*", "#", element.text) for element in elements]


def run(stem: str, **settings):
    """What main returns, after its figure was compared with the committed one."""
    module = load(stem)
    name = Path(module.__file__).with_suffix(".svg").name
    found = module.main(figure=name, **settings)
    made, committed = (folder.joinpath(name).read_text("utf-8") for folder in (Path(), FIGURES))
    assert headings(made) == headings(committed) and len(headings(made)) >= 2
    assert len(made) < 40_000 and len(committed) < 40_000
    return found


# ---- what all examples have


def test_there_are_examples_numbered_without_a_gap():
    assert [path.name[:2] for path in EXAMPLES] == [f"{i:02d}" for i in range(1, len(EXAMPLES) + 1)]


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def described(request, monkeypatch):
    """(main, what the example hands to lesson.run) of each example, which does not run."""
    import lesson

    calls = []
    monkeypatch.setattr(lesson, "run", lambda main, **settings: calls.append((main, settings)))
    runpy.run_path(str(request.param), run_name="__main__")
    return calls[0]


def test_every_flag_is_explained_and_every_thing_to_try_is_told(described):
    import lesson

    main, settings = described
    parameters = inspect.signature(main).parameters.values()
    names = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"figure"}
    assert set(settings["flags"]) == names and {"steps", "seed"} <= names and set(settings["full"]) <= names
    words = {name: settings[name] for name in ("doc", "flags", "full", "full_time")}
    parser = lesson.parser(main, here="here", figure="there.svg", **words)
    help_text = " ".join(parser.format_help().split())
    assert all(" ".join(told.split()) in help_text for told in settings["flags"].values())
    assert len(settings["tries"]) == 3
    for added, outcome in settings["tries"]:
        given = vars(parser.parse_args(shlex.split(added)))
        assert set(given) - {"figure", "full"} <= names and (given["full"] or len(given) > 2)
        assert len(outcome) > 40 and re.search(r"\d", outcome), "the outcome is told with a figure"


def test_the_compiler_is_announced_before_the_example_begins(monkeypatch, capsys):
    import lesson

    from tinyllm.recipes import compile_ahead

    monkeypatch.setattr(compile_ahead, "ensure_compiled", lambda show: print("compiling"))
    monkeypatch.setattr(sys, "argv", ["00_example.py", "--steps", "7"])
    words = {"file": "00_example.py", "doc": "", "flags": {"steps": "steps"}, "full": {"steps": 9}, "full_time": "long"}
    lesson.run(lambda steps=3, figure=None: print("steps", steps, figure), **words, tries=[("--full", "nine")])
    lines = capsys.readouterr().out.split("\n")
    assert lines[:2] == ["compiling", "steps 7 runs/figures/00_example.svg"]
    assert [line.strip() for line in lines if line][-2:] == ["python examples/00_example.py --full", "nine"]


def test_an_example_is_a_script_that_draws_and_says_what_to_try(tmp_path):
    done = subprocess.run([sys.executable, EXAMPLES[0], "--steps", "20"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("python examples/01_autograd.py") == 3
    assert (tmp_path / "runs/figures/01_autograd.svg").exists()


def test_the_table_of_examples_names_every_example_and_its_figure():
    table = (ROOT / "examples" / "README.md").read_text("utf-8")
    for path in EXAMPLES:
        assert path.name in table and f"docs/figures/{path.stem}.svg" in table, path.name
    assert {path.stem for path in EXAMPLES} | {"11_ppo_overoptimised"} == {path.stem for path in FIGURES.glob("*.svg")}


# ---- each one's fact


def test_autograd_finds_the_line_of_least_squares():
    found = run("01")
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 100)
    slope, height = np.polyfit(x, 3 * x - 0.5 + 0.1 * rng.standard_normal(100), 1)
    assert found["w"] == pytest.approx(slope, abs=1e-6) and found["b"] == pytest.approx(height, abs=1e-6)
    assert found["difference"] < 1e-14 and found["gradcheck"] < 1e-6


def test_a_trained_bigram_table_approaches_counting_from_above():
    found = run("02")
    assert found["first"] == pytest.approx(found["blind"], abs=1e-6)
    assert found["counting"] <= found["loss"] < found["counting"] + 0.01


def test_bpe_packs_text_into_fewer_tokens_the_more_it_merges():
    few, more = (run("03", steps=steps) for steps in (50, 400))
    assert 1.2 < few["bytes_per_token"] < more["bytes_per_token"] - 0.4
    assert few["pieces"] > more["pieces"] and few["lossless"] and more["lossless"]


def test_attention_learns_to_look_up():
    found = run("04", steps=80)
    assert found["accuracy"] > 0.95 and found["weight"] > 0.5


def test_attention_begins_by_guessing():
    found = run("04", steps=3)
    assert found["accuracy"] == pytest.approx(0.1, abs=0.05)  # one of ten digits
    assert found["weight"] == pytest.approx(1 / 16, abs=0.01)  # evenly over 8 cards and 8 questions


def test_a_gpt_learns_from_characters():
    found = run("05", steps=25)
    assert found["first"] == pytest.approx(found["blind"], abs=0.3)
    assert found["validation"] < found["blind"] - 1


def test_the_narrower_the_choice_the_less_the_model_is_surprised():
    found = run("06", steps=25, n_texts=2)
    surprise = {name: measured["surprise"] for name, measured in found.items()}
    assert max(surprise["greedy"], surprise["top-k 20"], surprise["min-p 0.1"]) < surprise["temperature 1"] - 0.5
    assert surprise["top-p 0.9"] < surprise["temperature 1"] and found["human text"]["distinct"] > 0.95
    assert len(found) == 9


def test_instruction_tuning_learns_the_form_first_and_adapters_begin_as_the_model_that_was_saved(tmp_path):
    model = str(tmp_path / "model")
    small = {"n_demonstrations": 400, "n_test": 20, "batch_size": 16}
    found = run("07", steps=12, base_steps=2, save=model, **small)
    assert found["base"] == 0 and found["loss"] < found["first loss"] - 2
    whole, adapted = (load("07").main(steps=1, base=model, lora=lora, **small) for lora in (False, True))
    assert adapted["first loss"] == pytest.approx(whole["first loss"], abs=1e-5)
    assert whole["first loss"] < found["first loss"] - 2


def test_a_pretrained_classifier_beats_the_commonest_class():
    found = run("08", steps=60, tune_steps=6, n_labelled=150, n_test=300)
    assert found["always the commonest"] == pytest.approx(1 / 3)
    assert found["counting words"] > 0.45 and found["GPT, pre-trained"] > 0.4


def test_a_reward_model_beats_a_coin_from_the_first_stories():
    found = run("09", steps=60, n_stories=60, n_test=20)
    assert found["accuracy"] > 0.55 and found["ceiling"] > max(0.8, found["accuracy"])
    assert found["random"] < found["top"] - 0.5


def test_dpo_begins_at_a_coin_s_loss_and_the_margin_grows():
    found = run("10", steps=20, loss="dpo", n_stories=20, n_test=20, max_steps=3)
    assert found["first loss"] == pytest.approx(math.log(2), abs=1e-5) and abs(found["first margin"]) < 1e-4
    assert found["margin"] > 0.002


@pytest.mark.parametrize("shared", [False, True])
def test_ppo_starts_at_its_reference_and_leaves_it(tmp_path, shared):
    small = {"sft_steps": 6, "n_stories": 12, "n_test": 8, "n_prompts": 8, "minibatch_size": 8}
    found = run("11", steps=8, out=str(tmp_path / "run"), shared_critic=shared, **small)
    assert len(found["scores"]) >= 2 and abs(found["first kl"]) < 1e-3 < abs(found["kl"])
    assert "score" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_grpo_learns_sums_from_right_and_wrong():
    found = run("12", steps=40, until=0.2)
    assert 0.15 < found["before"] < 0.4 and found["after"] > found["before"] + 0.04
    assert abs(found["loss"]) < 0.3


def test_the_museum_of_failures_shows_each_bug_by_its_number():
    found = run("13", steps=25)
    clipped, padded, shifted, turned, endless = found.values()
    assert clipped["right"] == 0 and clipped["broken"] > 0.1
    assert padded["broken"] < padded["right"] - 0.3
    assert shifted["broken"] < shifted["right"] - 10 and shifted["fine broken"] > 0.2  # while the margin grows nicely
    assert turned["right"] > 0 and turned["broken"] < -3
    assert endless["broken"] < 0.3 and endless["right"] > 0.9
    assert endless["fine broken"] > endless["fine right"]  # and the score says that the bug is an improvement


def test_the_museum_is_the_same_on_every_visit():
    module = load("13")
    one, two = (module.main(steps=4, exhibits="no EOS") for _ in range(2))
    assert one == two


def test_a_vocabulary_that_is_pruned_further_fits_less_and_cuts_more():
    few, more = (run("14", steps=steps, n_words=500) for steps in (60, 150))
    assert (few["pieces"], more["pieces"]) == (60, 150)
    assert few["last"] < more["last"] - 0.2 < more["best"] and few["cut"] > more["cut"]

"""`tinyllm rl`: every method, exact resume in the middle of a rollout, and the many ways to start it wrongly."""

import json
import shutil

import numpy as np
import pytest

from tinyllm.cli.main import main
from tinyllm.evaluation.before_after import read_comparisons
from tinyllm.models import GPT, RewardModel
from tinyllm.recipes.improve import METHODS
from tinyllm.tokenizers import CharacterTokenizer
from tinyllm.training import read_records

SHORT = (
    "--max-steps 2 --warmup-steps 0 --n-answers 8 --group-size 2 --max-new-tokens 6 --minibatch-size 4 --checkpoint-interval 3"
).split()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def rl(base, judge, prompts_file):
    """rl(out, *words): the command on the tiny models; its exit code."""

    def run(out, *words):
        given = ["--reward-model", judge, "--prompts", prompts_file, "--out", out, *SHORT, *words]
        return main(["rl", str(base), *map(str, given)])

    return run


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_leaves_model_report_and_samples(method, lora, rl, base, out, capsys):
    assert rl(out, "--method", method, *(["--lora-rank", 2] if lora else [])) == 0
    assert "Prompts: 3" in capsys.readouterr().out
    before, after = (GPT.from_pretrained(folder).state_dict() for folder in (base, out / "model"))
    assert before.keys() == after.keys()  # LoRA's matrices are merged
    moved = {name for name in before if not np.array_equal(before[name], after[name][: len(before[name])])}
    assert moved and ("positions.weight" in moved) != lora
    assert len(read_comparisons(out)[0]) == 3
    assert (out / "report.html").exists()
    steps = [record for record in read_records(out / "metrics.jsonl") if record["event"] == "step"]
    assert {"score", "kl", "length", "entropy"} <= steps[0].keys() and abs(steps[0]["kl"]) < 1e-4


@pytest.mark.parametrize("words", ["--method ppo", "--method ppo --lora-rank 2", "--method grpo", "--method rloo --lora-rank 2"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(words, base, judge, prompts_file, resumed, same_model):
    given = ["rl", base, "--reward-model", judge, "--prompts", prompts_file, *SHORT, *words.split(), "--max-steps", 6]
    whole, cut = resumed(*given, after=3)  # ppo: in the middle of a rollout of four steps
    assert same_model(whole, cut)
    assert (whole / "comparisons.jsonl").read_bytes() == (cut / "comparisons.jsonl").read_bytes()


def test_the_method_of_a_run_that_is_resumed_is_its_own(rl, out, fails, base, judge, prompts_file):
    assert rl(out, "--method", "rloo") == 0
    assert rl(out, "--resume") == 0
    given = ["rl", base, "--reward-model", judge, "--prompts", prompts_file, "--out", out, "--resume", *SHORT]
    assert "inputs.algorithm was 'rloo'" in fails(*given, "--method", "grpo")


def test_a_model_with_dropout_and_a_single_prompt_will_do(byte_model, judge, out, tmp_path):
    (tmp_path / "one.txt").write_text("What is tea?\n")
    words = ["--reward-model", str(judge), "--prompts", str(tmp_path / "one.txt"), "--out", str(out), *SHORT]
    assert main(["rl", str(byte_model("dropout", dropout=0.2)), *words]) == 0
    steps = [record for record in read_records(out / "metrics.jsonl") if record["event"] == "step"]
    assert abs(steps[0]["ratio"] - 1) < 1e-5


def test_the_built_in_news_are_prompts_too(byte_model, pairs_file, out, tmp_path, capsys):
    wide, judge = str(byte_model("wide", block_size=512)), str(tmp_path / "judge")
    assert main(["reward", wide, "--preferences", str(pairs_file), "--out", judge]) == 0
    words = ["--reward-model", judge, "--prompts", "news", "--out", str(out), *SHORT, "--max-steps", "1"]
    assert main(["rl", wide, *words]) == 0
    assert "Prompts: 2,000" in capsys.readouterr().out


def test_the_smaller_of_both_contexts_counts(byte_model, judge, out, fails):
    wide = byte_model("wide", block_size=512)
    words = ["--reward-model", judge, "--prompts", "news", "--out", out, *SHORT, "--max-new-tokens", 150]
    assert "prompts: none leaves room for an answer in a context of 192" in fails("rl", wide, *words)


def test_prompts_without_room_are_counted(rl, out, tmp_path, capsys):
    (tmp_path / "some.txt").write_text("What?\n" + "x" * 500 + "\nWho?\n")
    assert rl(out, "--prompts", tmp_path / "some.txt") == 0
    assert "Prompts: 2; left out: 1 with no room for an answer of 6 tokens in 192" in capsys.readouterr().out


@pytest.fixture(scope="module")
def other_judge(respoiled, judge):
    """A reward model of another tokenizer."""
    folder = shutil.copytree(judge / "model", respoiled("x", lambda name, array: array).parent / "other")
    model = RewardModel.from_pretrained(folder)
    shutil.rmtree(folder)
    model.save_pretrained(folder, CharacterTokenizer.train(["abc"]))
    return folder


@pytest.fixture(scope="module")
def nan_judge(respoiled, judge):
    """A reward model that has diverged."""
    nan = np.float32("nan")
    return respoiled("nan", lambda name, array: array * nan if name == "score.weight" else array, of=judge / "model")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--group-size 1 --method grpo", "group_size is 1; grpo compares the answers to a prompt, so give at least 2"),
        ("--group-size 0", "group_size must be a whole number of at least 1, got 0"),
        ("--n-answers 5 --method rloo", "n_answers is 5; expected a multiple of group_size 2, such as 4"),
        ("--n-answers 0", "n_answers must be a whole number of at least 1, got 0"),
        ("--n-answers 1000000000", "rows of 192 tokens need about"),
        ("--max-steps 0", "max_steps must be a whole number of at least 1, got 0"),
        ("--max-new-tokens 0", "max_new_tokens must be a whole number of at least 1"),
        ("--max-new-tokens 1000", "prompts: none leaves room for an answer in a context of 192: the shortest has 16 tokens"),
        ("--temperature 0", "temperature must be"),
        ("--kl-coefficient -1", "kl_coefficient must be"),
        ("--lora-rank -1", "lora_rank must be a whole number of at least 0, got -1"),
        ("--lora-rank 1000", "rank must be a whole number from 1 to 8"),
        ("--method grppo", "did you mean 'grpo'?"),
        ("--prompts {tmp}/long.txt", "prompts: none leaves room for an answer in a context of 192: the shortest has 504 tokens"),
        ("--prompts {tmp}/blank.txt", "blank.txt holds no prompt; give one a line"),
        ("--prompts {tmp}/table.csv", "table.csv is a table (.csv); expected one JSON object a line"),
        ("--prompts {tmp}/latin.txt", "latin.txt: line 2: byte 0xf6 is not UTF-8; save the file as UTF-8 text"),
        (
            "--prompts {tmp}/odd.jsonl",
            "odd.jsonl: 1 record, 1 skipped: 1 with speakers out of turn (first: line 1); nothing is left",
        ),
        ("--prompts {tmp}", "that is a folder, a file is wanted"),
        ("--prompts {tmp}/nowhere", "No such file or directory"),
        ("--reward-model {nan}", "the weight head.weight in {nan} holds a value that is not finite"),
        ("--reward-model {other}", "tokenizer: the policy's has sha256"),
        ("--reward-model {base}", "score.weight: expected a head's weights (is this a language model?)"),
        ("--reward-model {tmp}/nowhere", "reward-model: {tmp}/nowhere does not exist"),
        ("{judge}", "score.weight: expected a language model"),
        ("{broken}", "holds a value that is not finite"),
        ("--out {tmp}/table.csv", "out: {tmp}/table.csv cannot be a folder"),
        ("--out {tmp}/table.csv/run", "cannot be a folder, since {tmp}/table.csv is a file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words, fault, base, judge, broken, nan_judge, other_judge, prompts_file, out, tmp_path, fails
):
    (tmp_path / "long.txt").write_text("x" * 500)
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "table.csv").write_text("id,prompt\n1,Hi\n")
    (tmp_path / "latin.txt").write_bytes("Hi\nWie schön?\n".encode("latin-1"))
    odd = [{"prompt": [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi"}]}]
    (tmp_path / "odd.jsonl").write_text("\n".join(map(json.dumps, odd)))
    places = {"base": base, "judge": judge, "broken": broken, "nan": nan_judge, "other": other_judge, "tmp": tmp_path}
    given = words.format(**places).split()
    model = base if given[0].startswith("--") else given.pop()
    defaults = ["--reward-model", judge, "--prompts", prompts_file, "--out", out, *SHORT]
    assert fault.format(**places) in fails("rl", model, *defaults, *given)
    assert not out.exists()

"""A run whose numbers grew out of bounds ends with an error that says so, in every verb, and leaves a log that can be read."""

import json

import pytest

from tinyllm.cli.main import main

TINY = "--tokenizer character --block-size 16 --n-layers 1 --n-heads 2 --d-model 8 --num-samples 0"
RL = "--n-answers 4 --group-size 2 --max-new-tokens 4 --minibatch-size 2"
HUGE = "--learning-rate 1e38 --warmup-steps 0 --max-steps 3 --batch-size 2".split()


@pytest.fixture
def words_of(base, judge, pairs_file, prompts_file, text_file, tmp_path):
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps({"prompt": f"Say {i}", "completion": "ok"}) + "\n" for i in range(8)))
    return {
        "train": [text_file, *TINY.split(), "--eval-interval", "1", *HUGE],
        "finetune": [base, chats, "--eval-interval", "1", *HUGE],
        "finetune --lora-rank": [base, chats, "--lora-rank", "2", *HUGE],
        "reward": [base, pairs_file, *HUGE],
        "dpo": [base, pairs_file, "--eval-interval", "1", *HUGE],
        "rl": [base, prompts_file, "--reward-model", judge, *RL.split(), *HUGE[:-2]],
        "rl --method grpo": [base, prompts_file, "--reward-model", judge, "--method", "grpo", *RL.split()[:6], *HUGE[:-2]],
    }


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("case", ["train", "finetune", "finetune --lora-rank", "reward", "dpo", "rl", "rl --method grpo"])
def test_a_run_that_diverges_says_so(case, words_of, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([case.split()[0], *map(str, words_of[case]), "--out", str(out)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("tinyllm: error: the run diverged at step ") and "Lower learning_rate" in last
    for line in (out / "metrics.jsonl").read_text().splitlines() if out.exists() else ():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert not (out / "model").exists()


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_after_a_divergence_in_the_first_step_the_same_folder_will_do(words_of, tmp_path):
    words = [*map(str, words_of["train"]), "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 2
    assert main(["train", *words, "--learning-rate", "0.001"]) == 0

"""Everything that works on a GPT works on a Llama: each command in small, one after the other."""

import json

import pytest

import tinyllm
from tinyllm.cli.main import main
from tinyllm.models import Llama, RewardModel, load_model

SHAPE = "--n-layers 1 --n-heads 2 --n-kv-heads 1 --d-model 16 --block-size 160 --window 100".split()
SHORT = "--max-steps 3 --batch-size 4 --warmup-steps 1".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """runs/base, chat, reward, ppo, dpo: made by the commands."""
    root = tmp_path_factory.mktemp("llama")
    text = root / "numbers.txt"
    text.write_text("".join(f"The number after {i} is {i + 1}.\n\n" for i in range(400)))

    def run(*words):
        assert main([str(word) for word in words]) == 0, words

    run(
        "train",
        text,
        "--model",
        "llama",
        "--out",
        root / "base",
        *SHAPE,
        *SHORT,
        "--vocab-size",
        400,
        "--num-samples",
        1,
        "--eval-batches",
        1,
    )
    run("finetune", root / "base", "--out", root / "chat", *SHORT)
    run("label", "make", root / "chat", "news", "--out", root / "items.jsonl", "--n-prompts", 4)
    run("label", "simulate", root / "items.jsonl", "--out", root / "labels.jsonl")
    run("label", "export", root / "items.jsonl", root / "labels.jsonl", "--out", root / "pairs.jsonl")
    run("reward", root / "chat", root / "pairs.jsonl", "--out", root / "reward", *SHORT)
    run("dpo", root / "chat", root / "pairs.jsonl", "--out", root / "dpo", *SHORT)
    run("rl", root / "chat", "news", "--reward-model", root / "reward", "--out", root / "ppo", "--max-steps", 2)
    return root


@pytest.mark.parametrize("stage", ["base", "chat", "dpo", "ppo"])
def test_each_stage_leaves_a_llama(folder, stage):
    model = load_model(folder / stage / "model")
    assert type(model) is Llama and model.config.window == 100 and model.config.n_groups == 1


def test_the_reward_model_has_a_llama_s_trunk_and_reads_itself_again(folder):
    reward = RewardModel.from_pretrained(folder / "reward" / "model")
    assert type(reward.trunk) is Llama
    config = json.loads((folder / "reward" / "model" / "config.json").read_text())
    assert config["architectures"] == ["MistralForSequenceClassification"] and config["model_type"] == "mistral"


def test_it_is_talked_with_and_scored_from_python(folder):
    llm = tinyllm.load(folder / "ppo")
    assert llm.chat("What is 2 plus 3?", max_new_tokens=5).text is not None
    assert llm.score("Oslo", after="Anna found a lamp in ") < 0
    assert isinstance(tinyllm.load(folder / "reward").score("Yes", after="Is it so?"), float)


def test_it_is_shown_and_measured(folder, capsys):
    for words in (["info", folder / "chat"], ["generate", folder / "base", "--prompt", "The", "--int8", "--max-new-tokens", 3],
                  ["evaluate", folder / "base"], ["bench", folder / "base", "--steps", 1]):  # fmt: skip
        assert main([str(word) for word in words]) == 0
    shown = capsys.readouterr().out
    assert "The Llama in" in shown and "blocks.*.feedforward.gate.weight" in shown and "GFLOP/s" in shown


def test_a_run_of_a_llama_goes_on_without_saying_what_it_is(folder):
    assert main(["train", "--out", str(folder / "base"), "--resume", "--max-steps", "4"]) == 0
    assert json.loads((folder / "base" / "config.json").read_text())["settings"]["architecture"] == {"name": "llama"}


def test_adapters_are_saved_as_peft_names_them(folder, tmp_path):
    words = ["finetune", folder / "base", "--out", tmp_path / "lora", "--lora-rank", 2, *SHORT]
    assert main([str(word) for word in words]) == 0
    config = json.loads(next((tmp_path / "lora").rglob("adapter_config.json")).read_text())
    assert set(config["target_modules"]) == {f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")}
    assert config["fan_in_fan_out"] is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n-kv-heads", "2"], "--n-kv-heads is no setting of gpt2; leave it out, or choose --model llama"),
        (["--model", "llama", "--no-bias"], "--bias is no setting of llama; leave it out, or choose --model gpt2"),
        (["--model", "bert"], "unknown --model 'bert'; expected one of gpt2, llama"),
        (["--model", "llama", "--n-heads", "3"], "d_model 128 is not divisible by n_heads 3"),
        (["--model", "llama", "--n-kv-heads", "3"], "n_heads 4 is not divisible by n_kv_heads 3"),
    ],
)
def test_settings_of_another_architecture_are_refused_by_name(words, message, tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path / "run"), *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()

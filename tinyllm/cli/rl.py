"""`tinyllm rl`: improve a model on its own answers, judged by a reward model or by a function of yours.

Each round the model answers some prompts, the answers are scored, and what scored above expectation becomes likelier; every nat
of distance from where it began has its price. Who scores: a reward model, or with --reward a Python function, def score(prompt,
answer), which gives a number (or of lists: def score(prompts, answers)). Methods: ppo (a value model says what to expect), grpo
and rloo (the other answers to the same prompt do), reinforce (the mean of all answers).
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.cli import tuning
from tinyllm.cli.parser import lesson
from tinyllm.cli.resuming import MODEL, Input, add_files

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm rl runs/chat asked.txt --reward-model runs/rm --out runs/ppo
  tinyllm rl runs/chat q.txt --reward my.py:score --method grpo --out runs/grpo
  tinyllm rl runs/chat news --reward-model runs/rm --out runs/news
  tinyllm rl --out runs/ppo --resume                   go on after a stop
"""
INPUTS = (
    MODEL,
    Input("prompts", "PROMPTS", "files"),
    Input("reward_model", "--reward-model", "model", required=False),
    Input("reward", "--reward", "function", required=False),
)
METHODS = ("ppo", "grpo", "rloo", "reinforce")
N_NEWS = 2000  # prompts made of the built-in news
DEFAULTS = {
    "learning_rate": 2e-4, "min_learning_rate": 2e-5, "max_steps": 200, "warmup_steps": 5, "epsilon": 1e-5, "eval_interval": 0,
}  # fmt: skip
WORDS = {"gradient_accumulation": "minibatches added up in one step"}
SHOWN = {"score": "score", "kl": "kl", "length": "length", "entropy": "entropy"}


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("rl", help="improve a model on its own answers", description=lesson(__doc__), epilog=EPILOG)
    tuning.add_common_options(parser)
    add = parser.add_argument
    text = "prompts: text, one a line; or .jsonl; or news, the built-in stories"
    add_files(parser, "prompts", metavar="PROMPTS", flag="--prompts", text=text)
    add("--reward-model", metavar="FOLDER", help="folder of the reward model, or of its run")
    add("--reward", metavar="FILE.py:NAME", help="a Python function in place of a reward model; the file is run")
    add("--method", choices=METHODS, metavar="NAME", help=f"{', '.join(METHODS[:-1])} or {METHODS[-1]} (default: ppo)")

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, groups())

    parser.later(fill)


def groups() -> list[Group]:
    """The settings of the verb: those that all methods share, and the training."""
    from tinyllm.cli.settings import Group
    from tinyllm.recipes.improve import RLConfig

    without = ("batch_size", "eval_interval", "eval_batches")
    training = tuning.training_group(DEFAULTS, without=without, words=WORDS)
    return [Group("rl", RLConfig), tuning.reading_group(), training]


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/, report.html, and samples from before and after."""
    from tinyllm.recipes import improve as improvement
    from tinyllm.report.rl import write_rl_report
    from tinyllm.rlhf.reward_function import load_reward_function

    out = tuning.out_folder(args)
    settings = tuning.read_settings(groups(), args, INPUTS)
    training, config, method = settings["training"], settings["rl"], _method(args, out)
    own = config.of_method(method)  # refuses what makes no sense, before anything is loaded
    if (args.reward is None) == (args.reward_model is None):
        came = "neither came" if args.reward is None else "both came, or one stands in the run that is resumed"
        raise ValueError(f"--reward-model and --reward: {came}; give one of them to say who scores the answers")
    function = load_reward_function(args.reward) if args.reward else None
    policy, tokenizer = tuning.load_for_chat(args.model, seed=training.seed)
    judge: Any = function or tuning.load_judge(args.reward_model, tokenizer=tokenizer)
    block_size = min(model.config.block_size for model in (policy, judge) if model is not function)
    shape = {"block_size": block_size, "max_new_tokens": own.max_new_tokens}
    conversations = _prompts(args.prompts, tokenizer, roles=settings["reading"].roles, seed=training.seed, **shape)
    tuning.refuse_too_large(policy, rows=max(own.minibatch_size, config.n_answers // 4), name="n_answers and minibatch_size")
    noted: dict[str, Any] = {"settings": settings, "inputs": INPUTS, "algorithm": method}
    with tuning.tuning_run("rl", args, tokenizer=tokenizer, **noted) as folder:
        task = improvement.Improvement(policy, judge, conversations, tokenizer=tokenizer)
        records = task.records(method, config=training, rl_config=config, run=folder)
        tuning.show_records(records, label=method, total=training.max_steps, shown=SHOWN)
        policy.save_pretrained(folder.path / "model", tokenizer)
        task.write_comparisons(folder.path)
        write_rl_report(folder.path)
    print(f"\nThe model is in {out / 'model'}, the report is {out / 'report.html'}")
    print(f"Talk with it:  tinyllm chat {shlex.quote(str(out))}")
    return 0


def _method(args: argparse.Namespace, out: Path) -> str:
    """--method, or that of the run that is resumed, or ppo."""
    from tinyllm.recipes.pretrain import saved_settings

    saved = saved_settings(out).get("inputs", {}).get("algorithm") if args.resume else None
    return args.method or (saved if saved in METHODS else METHODS[0])


def _prompts(
    paths: Sequence[str], tokenizer: Any, *, roles: Mapping[str, str], seed: int, block_size: int, max_new_tokens: int
) -> list[list[dict[str, str]]]:
    """The prompts that leave room for an answer; says how many there are, and how many were left out."""
    from tinyllm.recipes.improve import with_room
    from tinyllm.recipes.label import read_prompts
    from tinyllm.training.streams import stream

    rng = stream(seed, "prompts")
    read = [read_prompts(path, n=N_NEWS if path == "news" else None, rng=rng, roles=roles) for path in paths]
    found = [prompt.messages for prompts in read for prompt in prompts]
    kept = with_room(found, tokenizer, block_size=block_size, max_new_tokens=max_new_tokens)
    why = f"; left out: {len(found) - len(kept):,} with no room for an answer of {max_new_tokens} tokens in {block_size}"
    print(f"Prompts: {len(kept):,}{why if len(kept) < len(found) else ''}", flush=True)
    return kept

"""`tinyllm rl`: improve a model on its own answers, judged by a reward model.

Each round the model answers some prompts, the reward model scores the answers, and what scored above expectation becomes
likelier; every nat of distance from where it began has its price. Methods: ppo (a value model says what to expect), grpo and
rloo (the other answers to the same prompt do), reinforce (the mean of all answers).
"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from tinyllm.cli import tuning
from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm rl runs/chat --reward-model runs/reward --prompts prompts.txt --out runs/ppo
  tinyllm rl runs/chat --reward-model runs/reward --prompts news --method grpo --out runs/grpo
"""
METHODS = ("ppo", "grpo", "rloo", "reinforce")
DEFAULTS = {"learning_rate": 2e-4, "min_learning_rate": 2e-5, "max_steps": 200, "warmup_steps": 5, "epsilon": 1e-5}
SHOWN = {"score": "score", "kl": "kl", "length": "length", "entropy": "entropy"}


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "rl", help="improve a model on its own answers", description=lesson(__doc__), epilog=EPILOG
    )
    tuning.add_common_options(parser)
    add = parser.add_argument
    add("--reward-model", required=True, metavar="FOLDER", help="folder of the reward model, or of its run")
    add("--prompts", required=True, metavar="FILE", help="prompts, one a line or as JSON lines; or news, the built-in stories")
    add("--method", choices=METHODS, default="ppo", help="how to learn from the scores (default: ppo)")

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, groups())

    parser.later(fill)


def groups() -> list[Group]:
    """The settings of the verb: those that all methods share, and the training."""
    from tinyllm.cli.assistant import RLConfig
    from tinyllm.cli.settings import Group
    from tinyllm.training import TrainConfig

    without = frozenset({"batch_size", "eval_batches"})
    return [Group("rl", RLConfig), Group("training", TrainConfig, defaults={**tuning.TUNING, **DEFAULTS}, without=without)]


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/, report.html, and samples from before and after."""
    import numpy as np

    from tinyllm.cli import assistant
    from tinyllm.cli.answers import read_prompts
    from tinyllm.cli.model_folder import find_model
    from tinyllm.rlhf.report import write_rl_report
    from tinyllm.rlhf.reward_model import load_reward_model

    out = tuning.out_folder(args)
    settings = tuning.read_settings(groups(), args, out)
    training = settings["training"]
    policy, tokenizer = tuning.load_for_chat(args.model, seed=training.seed)
    reward_model = load_reward_model(find_model(args.reward_model), policy_tokenizer=tokenizer)
    rng = np.random.default_rng([training.seed, 23])
    prompts = read_prompts(args.prompts, n=2000 if args.prompts == "news" else None, rng=rng)
    conversations = [prompt.messages for prompt in prompts]
    inputs = {name: vars(args)[name] for name in ("model", "reward_model", "prompts", "method")}
    with tuning.tuning_run(out, settings=settings, inputs=inputs, tokenizer=tokenizer, resume=args.resume) as folder:
        task = assistant.Improvement(policy, reward_model, conversations, tokenizer=tokenizer)
        records = task.records(args.method, config=training, rl_config=settings["rl"], run=folder)
        tuning.show_records(records, label=args.method, total=training.max_steps, shown=SHOWN)
        policy.save_pretrained(folder.path / "model", tokenizer)
        task.write_comparisons(folder.path)
        write_rl_report(folder.path)
    print(f"\nThe model is in {out / 'model'}, the report is {out / 'report.html'}")
    print(f"Talk with it:  tinyllm chat {shlex.quote(str(out))}")
    return 0

"""`tinyllm dpo`: from pairs of answers straight to a better policy, without a reward model.

Raises the probability of the chosen answers against that of the rejected ones, relative to the model it began with. Watch the
margin and the accuracy rise, and how far the chosen answers' own log-probability falls.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinyllm.cli import tuning
from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm dpo runs/chat --preferences pairs.jsonl --out runs/dpo
  tinyllm dpo runs/chat --preferences pairs.jsonl --out runs/ipo --loss ipo --beta 0.5
"""
DEFAULTS = {"learning_rate": 1e-4, "min_learning_rate": 1e-5, "max_steps": 300, "eval_interval": 0}
SHOWN = {"reward_margin": "margin", "accuracy": "accuracy", "chosen_log_prob": "chosen"}


@dataclass(frozen=True)
class DPOSettings:
    """Which loss, and its price of leaving the reference."""

    loss: str = "dpo"  # dpo, robust, ipo, length-normalised or simpo; see rlhf/dpo.py
    beta: float = 0.1  # β; Rafailov et al. 2023

    def __post_init__(self) -> None:
        from tinyllm.rlhf.dpo import LOSSES

        if self.loss not in LOSSES:
            raise ValueError(f"loss is {self.loss!r}; expected one of {', '.join(LOSSES)}")


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "dpo", help="a better policy straight from pairs of answers", description=lesson(__doc__), epilog=EPILOG
    )
    tuning.add_common_options(parser)
    parser.add_argument("--preferences", required=True, metavar="FILE", help="pairs of answers, .jsonl or .json")

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, groups())

    parser.later(fill)


def groups() -> list[Group]:
    """The settings of the verb."""
    from tinyllm.cli.settings import Group
    from tinyllm.training import TrainConfig

    training = Group("training", TrainConfig, defaults={**tuning.TUNING, **DEFAULTS}, without=frozenset({"eval_batches"}))
    return [Group("dpo", DPOSettings), training]


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/ and report.html."""
    import numpy as np

    from tinyllm.cli import assistant
    from tinyllm.data.preferences import read_preferences
    from tinyllm.rlhf.dpo import DPO, LOSSES, PreferencePairs
    from tinyllm.rlhf.report import write_rl_report
    from tinyllm.training import train

    out = tuning.out_folder(args)
    settings = tuning.read_settings(groups(), args, out)
    config, training = settings["dpo"], settings["training"]
    model, tokenizer = tuning.load_for_chat(args.model, seed=training.seed)
    preferences, report = read_preferences(args.preferences)
    print(f"Pairs: {report}")
    comparisons = assistant.prepare_comparisons(preferences, tokenizer, block_size=model.config.block_size)
    print(f"As ids: {comparisons.report}", flush=True)
    rng = np.random.default_rng([training.seed, 22])
    pairs = PreferencePairs(comparisons.groups, reference=model, batch_size=training.batch_size, rng=rng)
    objective = DPO(LOSSES[config.loss], beta=config.beta)
    inputs = {"model": args.model, "preferences": args.preferences}
    with tuning.tuning_run(out, settings=settings, inputs=inputs, tokenizer=tokenizer, resume=args.resume) as folder:
        records = train(model, pairs, config=training, loss_fn=objective, run=folder, measure=objective.measure)
        tuning.show_records(records, label="dpo", total=training.max_steps, shown=SHOWN)
        model.save_pretrained(folder.path / "model", tokenizer)
        write_rl_report(folder.path)
    print(f"\nThe model is in {out / 'model'}, the report is {out / 'report.html'}")
    print(f"Talk with it:  tinyllm chat {shlex.quote(str(out))}")
    return 0

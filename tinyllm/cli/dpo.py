"""`tinyllm dpo`: from pairs of answers straight to a better policy, without a reward model.

Raises the probability of the chosen answers against that of the rejected ones, relative to the model it began with. Watch the
margin and the accuracy rise, and how far the chosen answers' own log-probability falls.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinyllm.cli import tuning
from tinyllm.cli.parser import lesson
from tinyllm.cli.resuming import MODEL

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

EPILOG = """examples:
  tinyllm dpo runs/chat pairs.jsonl --out runs/dpo
  tinyllm dpo runs/chat pairs.jsonl --out runs/ipo --loss ipo
  tinyllm dpo --out runs/dpo --resume                  go on after a stop
"""
INPUTS = (MODEL, tuning.PAIRS)
WORDS = {"batch_size": "pairs in one micro-batch"}
DEFAULTS = {"learning_rate": 1e-4, "min_learning_rate": 1e-5, "max_steps": 300}
N_COMPARED = 12  # held-out prompts whose answers before and after go into the report
SHOWN = {"reward_margin": "margin", "reward_accuracy": "accuracy", "chosen_log_prob": "chosen"}


@dataclass(frozen=True)
class DPOSettings:
    """Which loss, and its price of leaving the reference."""

    loss: str = "dpo"  # dpo, robust, ipo, length-normalised or simpo; see rlhf/dpo.py
    beta: float | None = None  # β, the price of leaving the reference (default: the loss's own, 0.1 for dpo)

    def __post_init__(self) -> None:
        from tinyllm.rlhf.dpo import LOSSES
        from tinyllm.storage.strict_json import nearest

        if self.loss not in LOSSES:
            near = nearest(self.loss, LOSSES)
            hint = f" (did you mean {near}?)" if near else ""
            raise ValueError(f"loss is {self.loss!r}; expected one of {', '.join(LOSSES)}{hint}")
        if self.beta is not None and not 0 < self.beta < math.inf:
            raise ValueError(f"beta is {self.beta}; expected a number above 0, the price of leaving the reference")

    @property
    def own_beta(self) -> float:
        """beta, or that which the loss has for default: losses of sums and of means over tokens differ by the length."""
        from tinyllm.rlhf.dpo import LOSSES

        return inspect.signature(LOSSES[self.loss]).parameters["beta"].default if self.beta is None else self.beta


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "dpo", help="a better policy straight from pairs of answers", description=lesson(__doc__), epilog=EPILOG
    )
    tuning.add_common_options(parser)
    tuning.add_pairs(parser)

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, groups())

    parser.later(fill)


def groups() -> list[Group]:
    """The settings of the verb."""
    from tinyllm.cli.settings import Group

    return [Group("dpo", DPOSettings), tuning.reading_group(), tuning.training_group(DEFAULTS, words=WORDS)]


def run(args: argparse.Namespace) -> int:
    """Train; the run's folder then holds model/ and report.html."""
    import numpy as np

    from tinyllm.evaluation.before_after import answers_in_words, paired, write_comparisons
    from tinyllm.report.rl import write_rl_report
    from tinyllm.rlhf.dpo import DPO, LOSSES, PreferencePairs
    from tinyllm.tokenizers.chat import ChatFormat
    from tinyllm.training import train
    from tinyllm.training.streams import stream

    out = tuning.out_folder(args)
    settings = tuning.read_settings(groups(), args, INPUTS)
    config, training = settings["dpo"], settings["training"]
    model, tokenizer = tuning.load_for_chat(args.model, seed=training.seed)
    shape = {"block_size": model.config.block_size, "seed": training.seed}
    comparisons = tuning.read_comparisons(args.preferences, tokenizer, roles=settings["reading"].roles, **shape)
    n_pairs = sum(len(group.pairs) for group in comparisons.groups)
    training = dataclasses.replace(training, batch_size=min(training.batch_size, n_pairs))  # none twice in a batch
    settings["training"] = training
    tuning.refuse_too_large(model, rows=2 * training.batch_size)
    shape = {"reference": model, "batch_size": training.batch_size}
    pairs = PreferencePairs(comparisons.groups, **shape, rng=stream(training.seed, "order of pairs"))
    held_out = PreferencePairs(comparisons.held_out, **shape, rng=stream(training.seed, "order of held-out pairs"))
    indices = np.arange(len(held_out.pairs))[: training.eval_batches * training.batch_size]
    batches = [held_out.batch(indices[i : i + training.batch_size]) for i in range(0, len(indices), training.batch_size)]
    chat, asked = ChatFormat(tokenizer), [group.prompt for group in comparisons.held_out[:N_COMPARED]]
    before = answers_in_words(model, asked, chat=chat)
    objective = DPO(LOSSES[config.loss], beta=config.own_beta)
    noted: dict[str, Any] = {"settings": settings, "inputs": INPUTS, "algorithm": config.loss}
    with tuning.tuning_run("dpo", args, tokenizer=tokenizer, **noted) as folder:
        records = train(
            model, pairs, config=training, loss_fn=objective, evaluation=batches, run=folder, measure=objective.measure
        )
        tuning.show_records(records, label="dpo", total=training.max_steps, shown=SHOWN)
        model.save_pretrained(folder.path / "model", tokenizer)
        write_comparisons(folder.path, paired(before, answers_in_words(model, asked, chat=chat)))
        write_rl_report(folder.path)
    print(f"\nThe model is in {out / 'model'}, the report is {out / 'report.html'}")
    print(f"Talk with it:  tinyllm chat {shlex.quote(str(out))}")
    return 0

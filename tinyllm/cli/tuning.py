"""What the verbs that go on with a finished model share: `finetune`, `reward`, `dpo` and `rl`.

    load_for_chat(model)        -> GPT, tokenizer      with a chat's control tokens, added where the model has none
    tuning_groups(...)          -> settings            the training settings with defaults for tuning, and the verb's own
    tune_in(out, ...)           -> RunFolder           the run's folder, its inputs noted, its records shown

The inputs (model, data, reward model) are part of a run's settings: --resume with other ones is refused by name.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.cli.progress import Progress

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

TUNING = {  # against training from nothing: shorter, gentler, without decay towards 0 of what was learned before
    "max_steps": 1000,
    "batch_size": 16,
    "learning_rate": 5e-4,
    "min_learning_rate": 5e-5,
    "warmup_steps": 20,
    "weight_decay": 0.0,
    "eval_interval": 100,
    "checkpoint_interval": 100,
}


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """MODEL, --out and --resume."""
    parser.add_argument("model", metavar="MODEL", help="folder of the model to begin with, or of its run")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder of this run, such as runs/mine")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out; give the same MODEL and data again")


def load_for_chat(path: str, *, seed: int) -> tuple[Any, Any]:
    """The model and its tokenizer, able to chat: a base model gets the control tokens as new rows of its table."""
    import numpy as np

    from tinyllm.cli.model_folder import find_model
    from tinyllm.models import GPT, extend_vocabulary, load_tokenizer_for
    from tinyllm.tokenizers import END_OF_TEXT
    from tinyllm.tokenizers.chat import CONTROL_TOKENS

    folder = find_model(path)
    model, tokenizer = GPT.from_pretrained(folder), load_tokenizer_for(folder)
    names = CONTROL_TOKENS if tokenizer.eos_id is not None else (END_OF_TEXT, *CONTROL_TOKENS)
    return extend_vocabulary(model, tokenizer, names, rng=np.random.default_rng([seed, 20]))


def same_tokenizer(tokenizer: Any, folder: str | Path, *, name: str) -> None:
    """ValueError unless the model in `folder` has the same tokenizer."""
    from tinyllm.models import load_tokenizer_for
    from tinyllm.rlhf.comparisons import check_same_tokenizer

    check_same_tokenizer(tokenizer, load_tokenizer_for(folder), name=name)


def read_settings(groups: list[Group], args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """The settings by group, those of the run in `out` as defaults when it is resumed."""
    from tinyllm.cli import stages
    from tinyllm.cli.settings import read_groups

    stages.refuse_used_folder(out, resume=args.resume)
    saved = stages.saved_settings(out) if args.resume else {}
    return read_groups([group.with_saved(saved.get(group.name, {}), where=str(out / "config.json")) for group in groups], args)


def out_folder(args: argparse.Namespace) -> Path:
    """--out, with ~ made whole."""
    return Path(os.path.expanduser(args.out))


@contextlib.contextmanager
def tuning_run(
    out: Path, *, settings: Mapping[str, Any], inputs: Mapping[str, Any], tokenizer: Any, resume: bool
) -> Iterator[Any]:
    """The locked run folder with settings and inputs noted, kernels compiled."""
    from tinyllm.cli import stages
    from tinyllm.cli.warmup import ensure_compiled

    ensure_compiled()
    with stages.start_run(out, settings={**settings, "inputs": dict(inputs)}, tokenizer=tokenizer, resume=resume) as run:
        yield run


def show_records(records: Iterator[Any], *, label: str, total: int, shown: Mapping[str, str]) -> None:
    """A progress line of each record. `shown`: metric -> its short name."""
    from tinyllm.training import StepRecord

    kept: dict[str, str] = {}
    with Progress(label, total, unit="steps") as progress:
        for record in records:
            if not isinstance(record, StepRecord):
                progress.say(f"step {record.step:,}: held-out loss {record.val_loss:.3f}")
                continue
            kept |= {short: f"{record.metrics[name]:.3f}" for name, short in shown.items() if name in record.metrics}
            progress.show(record.step, loss=f"{record.loss:.3f}", **kept)

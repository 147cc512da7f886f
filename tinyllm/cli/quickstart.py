"""`tinyllm quickstart`: from raw text to a GPT that writes, in one go, in less than ten minutes.

Reads the documentation and the source code that come with every Python, learns a tokenizer from them, trains a small GPT for
some minutes while showing what it writes, and leaves a folder with the model and a report. Each stage says what it does and
why, so that the command is itself the first lesson. It needs no internet.
"""

from __future__ import annotations

import argparse
import math
import os
import textwrap
import time
from pathlib import Path
from typing import Any

from tinyllm.cli.parser import lesson
from tinyllm.cli.progress import Progress, format_seconds

EPILOG = """examples:
  tinyllm quickstart                               the whole journey
  tinyllm quickstart --minutes 1                   less training
  tinyllm quickstart --steps 500 --out runs/small  exactly so many steps
"""
DATA = ("docs=python:reference:1", "docstrings=python:docstrings:3", "code=python:source:1")
SHAPE: dict[str, Any] = {"block_size": 128, "n_layers": 4, "n_heads": 4, "d_model": 192, "bias": False, "init_std": 0.04}
TRAINING: dict[str, Any] = {
    "batch_size": 16,
    "learning_rate": 2e-3,
    "min_learning_rate": 1e-4,
    "warmup_steps": 50,
    "eval_batches": 8,
}
PROMPT = "The return value"
WIDTH = 96
SECONDS_OF_TIMING = 6.0


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "quickstart", help="the whole journey, in less than ten minutes", description=lesson(__doc__), epilog=EPILOG
    )
    parser.add_argument("--out", metavar="FOLDER", help="folder of the run (default: runs/quickstart, or the next free name)")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to train, about (default: 5)")
    parser.add_argument("--steps", type=int, help="train exactly so many steps instead")
    parser.add_argument("--seed", type=int, default=1337, help="starts every random stream (default: 1337)")


def run(args: argparse.Namespace) -> int:
    """All stages, each with its sentence of explanation."""
    from tinyllm.cli import stages
    from tinyllm.cli.warmup import ensure_compiled

    _check(args)
    out = Path(os.path.expanduser(args.out)) if args.out else _free_folder(Path("runs/quickstart"))
    stages.refuse_used_folder(out, resume=False)
    start = time.monotonic()
    _tell(1, "The kernels", "Python is too slow for the inner loops of a neural network, so they are compiled to machine code, "
          "once: matrix products, attention, softmax and a few more.")
    ensure_compiled()
    texts, tokenizer = _text_stages(stages)
    _train_stages(stages, out, texts, tokenizer, args)
    _tell(7, "Your turn", f"All that took {format_seconds(time.monotonic() - start)}.")
    print(f"  report          {out / 'report.html'}   (open it in a browser)\n"
          f"  let it write    tinyllm generate {out} --prompt \"{PROMPT}\"\n"
          f"  look inside     tinyllm info {out}\n"
          f"  your own text   tinyllm train --data my/texts --out runs/mine")
    return 0


def _check(args: argparse.Namespace) -> None:
    """ValueError for a number that makes no sense, before minutes are spent on text and tokenizer."""
    if not 0 < args.minutes < math.inf:
        raise ValueError(f"--minutes is {args.minutes:g}; expected a number above 0")
    if args.steps is not None and args.steps < 1:
        raise ValueError(f"--steps is {args.steps}; expected at least 1")
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; expected 0 or more")


def _free_folder(wanted: Path) -> Path:
    """`wanted`, or wanted-2, wanted-3 ...: the first that is not there yet."""
    number, folder = 1, wanted
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _tell(number: int, title: str, why: str) -> None:
    print(f"\n{number}. {title}\n{textwrap.indent(textwrap.fill(why, WIDTH - 3), '   ')}\n", flush=True)


def _text_stages(stages: Any) -> tuple[Any, Any]:
    """Stages 2 and 3: the documents and the tokenizer learned from them."""
    _tell(2, "The text", "A language model learns from text alone. Every Python carries some megabytes of it: the language "
          "reference, the docstrings of the standard library, and its source. A tenth of the documents is held out, to "
          "test the model on what it never saw.")
    data = stages.DataConfig(data=DATA)
    texts = stages.read_texts(data)
    for name, documents in texts.training.items():
        held_out = sum(map(len, texts.validation[name]))
        size = sum(map(len, documents))
        print(f"   {name:<11} {len(documents):>6,} documents  {size / 1e6:>5.2f} MB   and {held_out / 1e6:.2f} MB held out")
    _tell(3, "The tokenizer", f"The model will not read letters but tokens: frequent pieces of text, found by merging the most "
          f"frequent pair of neighbours again and again, {data.vocab_size - 257:,} times (byte-pair encoding).")
    with Progress("   merging", data.vocab_size, unit="tokens") as progress:
        tokenizer = stages.make_tokenizer(texts, data, progress=lambda stage, done, total: _merging(progress, stage, done, total))
    sentence = "The interpreter raises an unexpected exception."
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode(sentence)]
    print(f"   {sentence!r} is now {len(pieces)} tokens instead of {len(sentence)} letters:\n   {'|'.join(pieces)}")
    return texts, tokenizer


def _merging(progress: Progress, stage: str, done: int, total: int | None) -> None:
    if stage == "merge":
        progress.total = total
        progress.show(done)


def _train_stages(stages: Any, out: Path, texts: Any, tokenizer: Any, args: argparse.Namespace) -> None:
    """Stages 4 to 6: token files, the model, training."""
    from tinyllm.cli.samples import SampleConfig
    from tinyllm.models import GPTConfig
    from tinyllm.training import TrainConfig

    n_vocab = tokenizer.vocab_size
    model_config = GPTConfig(vocab_size=n_vocab, **SHAPE)
    steps = args.steps or affordable_steps(model_config, seconds=60 * args.minutes)
    every = max(1, steps // 5)
    config = TrainConfig(max_steps=steps, seed=args.seed, eval_interval=every, checkpoint_interval=every, **TRAINING)
    samples = SampleConfig(sample_prompt=PROMPT, sample_tokens=80, sample_temperature=0.7)
    settings = {"data": stages.DataConfig(data=DATA), "model": model_config, "training": config, "samples": samples}
    with stages.start_run(out, settings=settings, tokenizer=tokenizer) as run:
        _tell(4, "The mixture", "All documents become one long row of token ids for each source. Training draws windows from "
              "them by weight: more prose than code, since prose is what we want to read; epochs says how often each text "
              "will be seen.")
        n_documents = sum(len(documents) for side in (texts.training, texts.validation) for documents in side.values())
        with Progress("   encoding", n_documents, unit="documents") as progress:
            stages.encode_texts(texts, tokenizer, out / "data", progress=progress.show)
        tokens = stages.open_tokens(out / "data", tokenizer)
        print(textwrap.indent(tokens.mixture.table(config.n_tokens(model_config.block_size)), "   "))
        _describe_model(model_config)
        model = stages.make_model(model_config, seed=args.seed, batch_size=config.batch_size)
        _tell(6, "Pre-training", "The model guesses the next token at every place, is told the right one, and is moved a little "
              f"towards it, {steps:,} times. Guessing blindly among {n_vocab:,} tokens costs ln {n_vocab:,} = "
              f"{math.log(n_vocab):.2f} nats; watch the loss fall, and the samples turn from noise into words and then into "
              f"the manner of the text. Ctrl-C saves; tinyllm train --out {out} --resume goes on.")
        with Progress("   training", steps, unit="steps") as progress:
            records = stages.train_model(model, tokens, tokenizer=tokenizer, config=config, samples=samples, run=run)
            stages.show_training(records, progress=progress)
        stages.finish_run(run, model, tokenizer)


def _describe_model(config: Any) -> None:
    from tinyllm.training import estimate_memory

    memory = estimate_memory(config, batch_size=TRAINING["batch_size"]).total
    _tell(5, "The model", f"A GPT: {config.n_layers} layers in which tokens first look at the tokens before them (attention, "
          f"{config.n_heads} heads), then think for themselves (feed-forward). It is GPT-2 in small: "
          f"{config.num_parameters():,} weights instead of 124 million, in about {memory / 1e6:.0f} MB of memory while "
          f"training, and a context of {config.block_size} tokens.")


def affordable_steps(config: Any, *, seconds: float) -> int:
    """How many training steps fit into `seconds` here: for some seconds a model is trained that is then thrown away."""
    import statistics

    import numpy as np

    from tinyllm.data import Batch
    from tinyllm.models import GPT
    from tinyllm.pretraining import next_token_loss
    from tinyllm.training import TrainConfig
    from tinyllm.training.loop import make_optimizer
    from tinyllm.training.step import add_gradients, update_weights

    rng = np.random.default_rng(0)
    model = GPT(config, rng=rng)
    optimizer = make_optimizer(model, TrainConfig())
    ids = rng.integers(0, config.vocab_size, (TRAINING["batch_size"], config.block_size + 1))
    batch = Batch(ids[:, :-1], ids[:, 1:])
    times: list[float] = []
    while len(times) < 8 or sum(times) < SECONDS_OF_TIMING:
        begin = time.perf_counter()
        add_gradients(model, batch, loss_fn=next_token_loss, n_counted=batch.n_counted)
        update_weights(optimizer, learning_rate=1e-3, grad_clip=1.0)
        times.append(time.perf_counter() - begin)
    steps = seconds / statistics.median(times[len(times) // 2 :])  # the first ones are slower: caches, fresh memory
    return max(100, int(steps) // 100 * 100)

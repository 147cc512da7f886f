"""From a model that continues text to one that does as it is told: instruction tuning, in minutes.

A small GPT first learns to continue text (Python's documentation). Asked "What is 34 + 57?" it goes on writing, for nobody has
ever told it that a question wants an answer. Then it sees demonstrations: conversations in which an assistant answers
right, made by programs that know the answer. The loss is the one it knows, taken over the assistant's words only. On
questions it has not seen, phrased as it has not seen them, it goes from nothing to most of them right; the calculator is
called for numbers it could not multiply itself, and what it was shown to decline it declines.

    python examples/07_instructions.py                    all weights
    python examples/07_instructions.py --lora             the base stays frozen, small adapters are trained beside it
    python examples/07_instructions.py --save FOLDER      keep the model, for `tinyllm chat FOLDER`
    python examples/07_instructions.py --base FOLDER      start from a model saved earlier, base or tuned

Read next: tinyllm/data/exact_tasks.py, tinyllm/tokenizers/chat.py, tinyllm/finetuning/instruction.py, tinyllm/nn/lora.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable

import numpy as np

from tinyllm.data import PaddedConversations, RandomWindows, read_standard_library
from tinyllm.data.instructions import SUMMARY, TASKS, make_instructions
from tinyllm.evaluation import ExactMatch, answer_all, measure_exact_match
from tinyllm.finetuning import answer_loss, encode_instructions
from tinyllm.models import GPT, GPTConfig, load_tokenizer_for
from tinyllm.nn import add_lora, merge_lora
from tinyllm.pretraining import next_token_loss
from tinyllm.tokenizers import CONTROL_TOKENS, END_OF_TEXT, BPETokenizer, ChatFormat
from tinyllm.training import StepRecord, TrainConfig, train
from tinyllm.training.metrics import Record

SHAPE = {"block_size": 128, "n_layers": 4, "n_heads": 4, "d_model": 128, "bias": False, "init_std": 0.05}
BATCH = 64  # conversations a step
ALL_TASKS = [*TASKS, SUMMARY]
QUIET = {"eval_interval": 0, "checkpoint_interval": 0, "warmup_steps": 50}


def make_base(steps: int, rng: np.random.Generator) -> tuple[GPT, BPETokenizer]:
    """A tokenizer that knows the control tokens, and a GPT trained for some steps on the documentation.

    The tokenizer also reads some demonstrations, so that the words of the tasks are tokens; the model does not, yet.
    """
    documents = [text for source in read_standard_library(("reference", "docstrings")) for text in source.documents]
    items = make_instructions(8000, split="train", rng=rng, tasks=ALL_TASKS)
    talk = [message["content"] for item in items for message in item.messages]
    special = (END_OF_TEXT, *CONTROL_TOKENS)
    tokenizer = BPETokenizer.train([*documents, *talk * 4], vocab_size=2048, pattern="qwen2", special_tokens=special)
    ids = np.concatenate([np.array([*tokenizer.encode(text), tokenizer.eos_id]) for text in documents])
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, **SHAPE), rng=rng)
    print(f"base model: {model.num_parameters():,} weights, {len(ids):,} tokens of documentation, {steps} steps")
    config = TrainConfig(max_steps=steps, batch_size=16, learning_rate=2e-3, min_learning_rate=2e-4, **QUIET)
    windows = RandomWindows(ids, batch_size=16, block_size=SHAPE["block_size"], rng=rng)
    show(train(model, windows, config=config, loss_fn=next_token_loss))
    return model, tokenizer


def tune(model: GPT, chat: ChatFormat, *, steps: int, n_demonstrations: int, lora: bool, rng: np.random.Generator) -> None:
    """Supervised fine-tuning in place: all weights, or adapters that are merged in the end."""
    items = make_instructions(n_demonstrations, split="train", rng=rng, tasks=ALL_TASKS)
    if lora:
        add_lora(model, rank=32, alpha=64.0, rng=rng)
    n_trained = sum(weight.size for weight in model.parameters())
    print(f"\ntuning {n_trained:,} of {model.num_parameters():,} weights: {len(ALL_TASKS)} tasks, {len(items):,} demonstrations, "
          f"{BATCH} a step, {steps} steps")  # fmt: skip
    encoded = encode_instructions(items, chat=chat)
    source = PaddedConversations(encoded, batch_size=BATCH, block_size=model.config.block_size, rng=rng)
    config = TrainConfig(max_steps=steps, batch_size=BATCH, learning_rate=3e-3, min_learning_rate=1e-4, **QUIET)
    show(train(model, source, config=config, loss_fn=answer_loss))
    if lora:
        merge_lora(model)


def show(records: Iterable[Record]) -> None:
    """Runs the training and says how long it took and where the loss went."""
    start = time.perf_counter()
    losses = [record.loss for record in records if isinstance(record, StepRecord)]
    print(f"  {time.perf_counter() - start:.0f} s, loss {losses[0]:.2f} -> {np.mean(losses[-20:]):.2f}")


def table(before: dict[str, ExactMatch], after: dict[str, ExactMatch]) -> None:
    """Exact match of every task before and after, with standard errors."""
    print(f"\n{'task':<22}{'base':>8}{'tuned':>8}   standard error, test questions")
    for task in sorted(after, key=lambda name: (name == "all", -after[name].accuracy)):
        one = after[task]
        print(f"{task:<22}{before[task].accuracy:>8.1%}{one.accuracy:>8.1%}   ±{one.standard_error:.1%}, {one.n}")


def main(
    steps: int = 3000, seed: int = 0, *, base_steps: int = 300, n_demonstrations: int = 200_000, n_test: int = 2000,
    lora: bool = False, base: str | None = None, save: str | None = None,
) -> dict[str, float]:  # fmt: skip
    """Train the base (or load one), tune it, and ask both the same test questions."""
    base_rng, tune_rng, test_rng = np.random.default_rng(seed).spawn(3)
    if base:
        model, tokenizer = GPT.from_pretrained(base), load_tokenizer_for(base)
    else:
        model, tokenizer = make_base(base_steps, base_rng)
    chat = ChatFormat(tokenizer)
    test = make_instructions(n_test, split="test", rng=test_rng, tasks=ALL_TASKS)
    before = measure_exact_match(model, test, chat=chat)
    tune(model, chat, steps=steps, n_demonstrations=n_demonstrations, lora=lora, rng=tune_rng)
    model.eval()
    after = measure_exact_match(model, test, chat=chat)
    table(before, after)
    examples = list({item.task: item for item in test}.values())
    for item, reply in zip(examples, answer_all(model, [item.prompt for item in examples], chat=chat), strict=True):
        print(f"\n  {item.prompt[-1]['content']}\n      {reply}")
    if save:
        model.save_pretrained(save, tokenizer)
        print(f"\nsaved; talk to it with: tinyllm chat {save}")
    return {"base": before["all"].accuracy, "tuned": after["all"].accuracy}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000, help="steps of tuning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--base", metavar="FOLDER")
    parser.add_argument("--save", metavar="FOLDER")
    options = parser.parse_args()
    main(options.steps, options.seed, lora=options.lora, base=options.base, save=options.save)

"""`tinyllm generate`: let a model go on with a text.

The model gives each possible next token a probability; the settings below say how one is picked. Temperature 0 always
takes the likeliest, 1 draws as the model believes; top-k, top-p and min-p leave out the unlikely ones first. The text
appears as it is written. A model that was trained on conversations gets the prompt as a user's message and answers it;
--raw lets it go on with the text instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group
    from tinyllm.decoding import GenerationConfig

EPILOG = """examples:
  tinyllm generate runs/mine --prompt "Once upon a time"
  tinyllm generate runs/mine --temperature 1 --top-p 0.95 --num-samples 3
  tinyllm generate runs/chat --prompt "What is 12 times 7?"
  tinyllm generate runs/mine --int8 --temperature 0
  tinyllm generate runs/mine --prompt - --max-new-tokens 500 < story.txt
"""
FLAGS = {"stop_strings": "stop", "n_beams": "beams"}
SEED = 1337  # as everywhere


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("generate", help="text from a model", description=lesson(__doc__), epilog=EPILOG)
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder of a model, or of a run (its newest checkpoint while it goes on)")
    add("--prompt", default="", metavar="TEXT", help="how the text begins; - reads it from the input (default: empty)")
    add("--num-samples", type=int, default=1, metavar="N", help="how many texts (default: 1)")
    add("--seed", type=int, default=SEED, metavar="N", help=f"the same number gives the same text (default: {SEED})")
    add("--raw", action="store_true", help="go on with the text, also where the model was trained on conversations")
    add("--int8", action="store_true", help="weights rounded to 8 bits: a quarter of the memory, faster, a little less exact")
    add("--echo", action=argparse.BooleanOptionalAction, help="show the prompt too (default: yes, but not before an answer)")

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, [_group()])

    parser.later(fill)


def _group() -> Group:
    from tinyllm.cli.settings import Group
    from tinyllm.decoding import TEMPERATURE, GenerationConfig

    return Group("generation", GenerationConfig, flags=FLAGS, defaults={"temperature": TEMPERATURE})


def read_config(args: argparse.Namespace) -> GenerationConfig:
    """The settings of generation; beam search, which draws nothing, has no default temperature."""
    from tinyllm.cli.settings import read_groups, values_of

    given = values_of([_group()], args)["generation"]
    beams = given.get("n_beams", 1) > 1 and "temperature" not in given
    group = dataclasses.replace(_group(), defaults={}) if beams else _group()
    return read_groups([group], args)["generation"]


def run(args: argparse.Namespace) -> int:
    """Write the samples to the output."""
    from tinyllm.cli.writing import harmless

    if args.num_samples < 1:
        raise ValueError(f"--num-samples is {args.num_samples}; expected at least 1")
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; expected 0 or more")
    config = read_config(args)
    if config.n_beams > 1 and args.num_samples > 1:
        beams = f"--num-samples {args.num_samples} with --beams {config.n_beams}"
        raise ValueError(f"{beams}: beam search finds one text; leave one of them out")
    typed = args.prompt.encode("utf-8", "surrogateescape")
    # the line end that echo and editors put behind a text is hardly meant
    prompt = sys.stdin.buffer.read().removesuffix(b"\n") if args.prompt == "-" else typed
    model, tokenizer = load(args.model, int8=args.int8)
    asked = bool(prompt) and not args.raw and speaks_chat(args.model, tokenizer)
    show: Callable[[str], str] = harmless if sys.stdout.isatty() else str
    notes: list[str] = []  # shown behind the text: on a terminal they would come in its middle
    write = _answers if asked else _samples
    samples = write(model, tokenizer, prompt, config=config, n_samples=args.num_samples, seed=args.seed, notice=notes.append)
    for number, pieces in enumerate(samples, start=1):
        if args.num_samples > 1:
            print(f"--- {number} of {args.num_samples}", flush=True)
        if args.echo or (args.echo is None and not asked):
            print(show(prompt.decode("utf-8", "replace")), end="\n" if asked else "", flush=True)
        for piece in pieces:
            print(show(piece), end="", flush=True)
        print(flush=True)
        while notes:
            print("tinyllm: note:", notes.pop(0), file=sys.stderr)
    return 0


def speaks_chat(path: str, tokenizer: Any) -> bool:
    """Whether the model was trained on conversations: it has the tokens for them, and is not out of pre-training alone."""
    from tinyllm.recipes.pretrain import saved_settings
    from tinyllm.tokenizers.chat import ChatFormat, chat_format
    from tinyllm.training import find_model, run_of

    if not isinstance(chat_format(tokenizer), ChatFormat):
        return False
    run_folder = run_of(find_model(path))
    return run_folder is None or "data" not in saved_settings(run_folder)  # the settings of pre-training


def load(path: str, *, int8: bool = False) -> tuple[Any, Any]:
    """The model and the tokenizer that a folder stands for, checked to belong together; kernels are compiled if need be."""
    from tinyllm.cli.warmup import ensure_compiled
    from tinyllm.models import GPT, load_tokenizer_for
    from tinyllm.nn import quantize
    from tinyllm.training import find_model

    folder = find_model(path)
    model, tokenizer = GPT.from_pretrained(folder), load_tokenizer_for(folder)
    if int8:
        quantize(model)
    ensure_compiled()
    return model, tokenizer


def _samples(
    model: Any,
    tokenizer: Any,
    prompt: bytes,
    *,
    config: GenerationConfig,
    n_samples: int,
    seed: int,
    notice: Callable[[str], None],
) -> Iterator[Iterator[str]]:
    """For each sample the pieces of its text. `notice` is told once what every sample has in common."""
    import numpy as np

    from tinyllm.decoding import write_on

    if config.n_beams > 1:
        yield iter([_best(model, tokenizer, prompt, config, notice)])
        return
    for number in range(n_samples):
        tell = notice if number == 0 else lambda text: None
        yield write_on(model, tokenizer, prompt, config=config, rng=np.random.default_rng([seed, number]), notice=tell)


def _answers(
    model: Any,
    tokenizer: Any,
    prompt: bytes,
    *,
    config: GenerationConfig,
    n_samples: int,
    seed: int,
    notice: Callable[[str], None],
) -> Iterator[Iterator[str]]:
    """For each sample the pieces of an answer to `prompt`, asked as a user of a chat would."""
    import numpy as np

    from tinyllm.tokenizers.chat import ChatFormat

    messages = [{"role": "user", "content": prompt.decode("utf-8", "replace")}]
    if config.n_beams > 1:
        chat = ChatFormat(tokenizer)
        config = dataclasses.replace(config, stop_tokens=(*config.stop_tokens, chat.end_id))
        yield iter([_best(model, tokenizer, chat.prompt(messages), config, notice)])
        return
    for number in range(n_samples):
        yield _answer(model, tokenizer, messages, config=config, rng=np.random.default_rng([seed, number]), notice=notice)


def _answer(
    model: Any, tokenizer: Any, messages: list[dict[str, str]], *, config: GenerationConfig, rng: Any,
    notice: Callable[[str], None],
) -> Iterator[str]:  # fmt: skip
    """The words of one answer as they are written; the calculator is called where the model calls it."""
    from tinyllm.chat import Piece, Reply, reply

    for event in reply(model, tokenizer, messages, config=config, rng=rng):
        if isinstance(event, Piece):
            yield event.text
        elif isinstance(event, Reply) and event.finish_reason == "context":
            notice(f"the answer was cut off: the context of {model.config.block_size} tokens was full")


def _best(model: Any, tokenizer: Any, prompt: bytes | list[int], config: GenerationConfig, notice: Callable[[str], None]) -> str:
    """The text that beam search finds; it must fit into the context."""
    from tinyllm.decoding import encode_prompt, generate_text, keep_tail

    block_size = model.config.block_size
    config = dataclasses.replace(config, max_new_tokens=min(config.max_new_tokens, max(block_size // 2, 1)))
    ids = prompt if isinstance(prompt, list) else encode_prompt(tokenizer, prompt)
    ids = keep_tail(ids, block_size=block_size, max_new_tokens=config.max_new_tokens, notice=notice)
    return generate_text(model, tokenizer, ids, config=config)

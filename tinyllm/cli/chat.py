"""`tinyllm chat`: talk with a model, in the terminal.

The answer appears as it is written. When the model calls its calculator, the call and its result are shown and the model
goes on from there. Any checkpoint will do; one that was not trained on conversations is written to as "User: ... Assistant:
..." and answers as it can.

How much of the conversation it sees: as many of the newest turns as fit into its context, whole ones, unless the model's
folder says that it learned from fewer (chat.json). The assistant of quickstart sees your message alone: a million weights
learn a question that stands alone well, and read what was asked before as part of it, so that each turn would cost it right
answers. --turns gives it more or fewer.

Without a terminal, each line of the input is a message, and the answers are the output.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tinyllm.cli.options import add_settings
from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.chat.conversation import Conversation
    from tinyllm.cli.settings import Group
    from tinyllm.models.contract import LanguageModel
    from tinyllm.tokenizers import Tokenizer

EPILOG = """examples:
  tinyllm chat runs/quickstart
  tinyllm chat runs/mine --system "Answer in one sentence." --temperature 0
  echo "What is 12 times 7?" | tinyllm chat runs/quickstart
  tinyllm chat runs/mine --turns 3
"""
FLAGS = {"stop_strings": "stop"}
WITHOUT = ("n_beams", "length_penalty", "early_stopping")  # beam search shows nothing before its end
ENDINGS = {  # why an answer ended, if the model did not end it
    "length": "cut off after {max_new_tokens} tokens; --max-new-tokens allows more",
    "context": "cut off: the context of {block_size} tokens was full",
    "calls": "stopped: the model called the calculator again and again",
}
BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("chat", help="talk with a model", description=lesson(__doc__), epilog=EPILOG)
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder of a model, or of a run (its newest checkpoint while it goes on)")
    add("--system", default="", metavar="TEXT", help="how the model is to behave")
    add("--turns", type=int, metavar="N", help="newest turns that the model sees (default: as many as it learned from)")
    add("--seed", type=int, default=1337, metavar="N", help="the same number and messages give the same answers (default: 1337)")
    add("--int8", action="store_true", help="weights rounded to 8 bits: a quarter of the memory, faster, a little less exact")
    add_settings(parser, lambda: [_group()])


def _group() -> Group:
    from tinyllm.cli.settings import Group
    from tinyllm.decoding import TEMPERATURE, GenerationConfig

    default = GenerationConfig(max_new_tokens=256, temperature=TEMPERATURE)
    return Group("generation", default, flags=FLAGS, without=WITHOUT)


def run(args: argparse.Namespace) -> int:
    """Talk until the input ends or /quit."""
    import numpy as np

    from tinyllm.chat import read_chat_settings
    from tinyllm.chat.conversation import Conversation
    from tinyllm.cli.settings import read_groups
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.loading import load_writer
    from tinyllm.training import find_model

    if args.turns is not None and args.turns < 1:
        raise ValueError(f"--turns is {args.turns}; expected at least 1, your message alone")
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; expected 0 or more")
    conversation = Conversation(read_groups([_group()], args)["generation"], system=args.system)
    with Terminal() as show:
        model, tokenizer = load_writer(args.model, int8=args.int8, show=show)
    settings = read_chat_settings(find_model(args.model))
    conversation.turns = args.turns or settings.turns
    rng = np.random.default_rng(args.seed)
    screen = Screen(interactive=sys.stdin.isatty() and sys.stdout.isatty())
    _greet(screen, model, tokenizer, args.model)
    if screen.interactive:
        _introduce(screen, settings.questions, turns=conversation.turns)
    for line in screen.lines():
        if line.startswith("/") and not line.startswith("//"):
            _obey(screen, conversation, line)
        elif line.strip():
            answer(screen, conversation, line.removeprefix("/"), talk=(model, tokenizer, rng))
        if conversation.ended:
            break
    return 0


def _greet(screen: Screen, model: LanguageModel, tokenizer: Tokenizer, path: str) -> None:
    """What one is talking to, and how; without a terminal only what may surprise."""
    from tinyllm.tokenizers import PlainChatFormat, chat_format

    if screen.interactive:
        screen.say(f"{path}: {model.num_parameters():,} parameters, a context of {model.config.block_size} tokens")
        screen.say("Write a message. /help shows the commands, Ctrl-C stops an answer, Ctrl-D ends the chat.")
    if isinstance(chat_format(tokenizer), PlainChatFormat):
        screen.note('this model was not trained on conversations: it sees "User: ... Assistant:" and may answer anything')


def _introduce(screen: Screen, questions: tuple[str, ...], *, turns: int | None) -> None:
    """What this model can be asked, if its folder says so, and how much of the conversation it sees."""
    if questions:
        screen.say("It answers questions such as these, and says of others that it does not know:")
        for question in questions:
            screen.say(f"  {question}")
    if turns is not None:
        screen.say("Each message stands alone: it does not see what was said before."
                   if turns == 1 else f"It sees the newest {turns} turns of the conversation.")  # fmt: skip


def _obey(screen: Screen, conversation: Conversation, line: str) -> None:
    try:
        screen.say(conversation.command(line.strip()))
    except (ValueError, OSError) as error:
        from tinyllm.storage.explain import explain

        screen.note(explain(error))


def answer(screen: Screen, conversation: Conversation, text: str, *, talk: tuple[Any, Any, Any]) -> None:
    """Show the model's answer to a message and remember both; talk: (model, tokenizer, rng).

    A message that cannot be answered is not remembered. Ctrl-C ends the answer, not the chat.
    """
    from tinyllm.chat import Piece, Reply, ToolCall, reply

    model, tokenizer, rng = talk
    said = ending = ""
    calls: list[dict[str, str]] = []  # made so far, each with its result: what a stopped answer rests on
    try:
        events = reply(model, tokenizer, conversation.with_message(text), config=conversation.config, rng=rng)
        with screen.answer():
            for event in events:
                if isinstance(event, Piece):
                    said += event.text
                    screen.write(event.text)
                elif isinstance(event, ToolCall):
                    calls += [{"role": "assistant", "content": said, "tool_call": event.expression},
                              {"role": "tool", "content": event.result}]  # fmt: skip
                    said = ""
                    equals = ":" if event.result.startswith("error") else " ="
                    screen.aside(f"[calculator: {event.expression}{equals} {event.result}]")
                elif isinstance(event, Reply):
                    conversation.add(text, event.messages)
                    ending = ENDINGS.get(event.finish_reason, "")
                else:
                    screen.forget(event.n_turns)
        if ending:
            screen.note(ending.format(max_new_tokens=conversation.config.max_new_tokens, block_size=model.config.block_size))
    except ValueError as error:
        screen.note(str(error))
    except KeyboardInterrupt:
        if not screen.interactive:
            raise
        conversation.add(text, [*calls, {"role": "assistant", "content": said}])
        screen.note("stopped")


class Screen:
    """The terminal, or what stands in its place. Everything the model wrote is made harmless before it is shown."""

    def __init__(self, *, interactive: bool):
        from tinyllm.cli.terminal import harmless

        self.interactive = interactive
        self._harmless = harmless
        self._colours = interactive and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._line = "begun"  # of an answer: "begun" with nothing of it there yet, "written" on, "ended" by a line's end
        self._n_forgotten = 0

    def lines(self) -> Iterator[str]:
        """What the user writes, line by line, until the input ends."""
        if not self.interactive:
            with contextlib.suppress(AttributeError, ValueError):
                sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
            yield from (line.rstrip("\r\n") for line in sys.stdin)
            return
        prompt = f"\x01{BOLD}\x02you>\x01{PLAIN}\x02 " if _set_up_readline() and self._colours else "you> "
        interrupted = False
        while True:
            print()
            try:
                line = input(prompt)
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                print()
                self.note("Ctrl-C again, or Ctrl-D, ends the chat")
                continue
            interrupted = False
            yield line

    @contextlib.contextmanager
    def answer(self) -> Iterator[None]:
        """Around an answer: its name before it on a terminal, a line's end behind it."""
        if self.interactive:
            print(f"{BOLD}bot>{PLAIN} " if self._colours else "bot> ", end="", flush=True)
        self._line = "begun"
        try:
            yield
        finally:
            if self._line != "ended":
                print(flush=True)

    def write(self, text: str) -> None:
        """A piece of the answer."""
        shown = self._harmless(text)
        print(shown, end="", flush=True)
        self._line = "ended" if shown.endswith("\n") else "written"

    def aside(self, text: str) -> None:
        """A line of ours within an answer, which goes on below it."""
        indent = " " * len("bot> ") if self.interactive else ""
        before = {"begun": "", "written": "\n" + indent, "ended": indent}[self._line]
        print(before + self._pale(self._harmless(text)), end="\n" + indent, flush=True)
        self._line = "begun"

    def say(self, text: str) -> None:
        """Lines of ours between messages, broken between words."""
        columns = max(shutil.get_terminal_size().columns, 20) if self.interactive else 10_000
        for line in text.splitlines():
            print(self._pale(textwrap.fill(line, columns, subsequent_indent="  ", drop_whitespace=True)), flush=True)

    def note(self, text: str) -> None:
        """Something worth knowing; without a terminal on stderr, so that the output is the answers alone."""
        if self.interactive:
            self.say(f"({text})")
        else:
            print("tinyllm: note:", text, file=sys.stderr, flush=True)

    def forget(self, n_turns: int) -> None:
        """Tell that the model no longer sees the first turns, when they are more than before."""
        if n_turns > self._n_forgotten:
            turns = "the first turn is" if n_turns == 1 else f"the first {n_turns} turns are"
            text = f"the context is full: {turns} out of the model's sight"
            self.aside(f"({text})") if self.interactive else self.note(text)
        self._n_forgotten = n_turns

    def _pale(self, text: str) -> str:
        return f"{DIM}{text}{PLAIN}" if self._colours else text


def _set_up_readline() -> bool:
    """Editing, history and completion of commands at the prompt, where Python has readline (not on Windows)."""
    try:
        import readline
    except ImportError:
        return False
    from tinyllm.chat.conversation import COMMANDS

    def complete(begun: str, index: int) -> str | None:
        names = [f"/{name}" for name in COMMANDS if f"/{name}".startswith(begun)] if begun.startswith("/") else []
        return names[index] if index < len(names) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
    return True

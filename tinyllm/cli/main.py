"""The command `tinyllm`: finds the verb, runs it, and turns what goes wrong into one line and an exit code.

0 done    1 a fault of tinyllm's own, with its traceback    2 input that cannot be used: one line on stderr
130 stopped by Ctrl-C (SIGINT)    143 stopped by SIGTERM    (128 + the signal's number, as shells count)
"""

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from tinyllm.cli.parser import Parser

# Each is a file beside this one. The order is the one a newcomer would try them in.
VERBS = (
    "quickstart", "tokenizer", "train", "generate", "chat", "evaluate", "finetune", "label", "reward", "dpo", "rl",
    "info", "bench", "doctor", "warmup",
)  # fmt: skip

DESCRIPTION = "A language model from raw text to generated text, on an ordinary CPU, with every step open to read."
EPILOG = """examples:
  tinyllm quickstart                                  the whole journey, in less than ten minutes
  tinyllm train my/texts --out runs/mine              a GPT on your own text
  tinyllm generate runs/mine --prompt "Once upon"     what it writes
  tinyllm train --help                                every setting, with its default
"""


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(prog="tinyllm", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    subparsers = parser.add_subparsers(dest="verb", metavar="<verb>", title="verbs")
    for verb in VERBS:
        importlib.import_module(f"tinyllm.cli.{verb}").add_parser(subparsers)
    _add_everywhere(parser)
    return parser


def _add_everywhere(parser: argparse.ArgumentParser) -> None:
    """Options that every verb takes, at any level: `tinyllm --debug train` and `tinyllm train --debug` are the same."""
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")
    parser.add_argument(
        "--threads", type=int, metavar="N", default=argparse.SUPPRESS, help="threads for the kernels (default: all cores)"
    )
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _add_everywhere(verb)


def _notes(error: BaseException) -> list[str]:
    """What was noted on an error on its way up: how to go on with the run, say."""
    return [*getattr(error, "__notes__", ())]


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A library's warning as one line of ours."""
    print("tinyllm: warning:", " ".join(str(message).split("\n")), file=sys.stderr)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block like an error, so that what is half done can be cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _give_up_output() -> None:
    """Send what is still buffered nowhere, or Python would complain of it again while it shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_missing_streams() -> None:
    """A program started without a terminal may have no input or output at all: Python then has None in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def dispatch(argv: Sequence[str] | None) -> int:
    """Parse and run; the verb's exit code. Errors come out as exceptions."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.version:
        from tinyllm import __version__

        print(f"tinyllm {__version__}")
        return 0
    if args.verb is None:
        parser.print_help()
        return 0
    if hasattr(args, "threads"):
        from tinyllm.kernels.threads import use_threads

        use_threads(args.threads)
    code = importlib.import_module(f"tinyllm.cli.{args.verb}").run(args)
    sys.stdout.flush()  # a broken pipe shows here, not while Python shuts down
    return int(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tinyllm` with these words (those of the command line by default) and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that knows no UTF-8
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("always", UserWarning)
        try:
            with _terminable():
                return dispatch(words)
        except SystemExit as stop:  # --help; SIGTERM; a run that was asked to stop and has saved
            if message := getattr(stop, "message", ""):
                print("tinyllm:", message, file=sys.stderr)
            return stop.code if isinstance(stop.code, int) else 0
        except KeyboardInterrupt as stop:
            print("tinyllm: stopped", *_notes(stop), sep="; ", file=sys.stderr)
            return 130
        except BrokenPipeError:  # the reader, `head` for instance, has seen enough
            _give_up_output()
            return 1
        except (ValueError, OSError, MemoryError) as error:
            from tinyllm.storage.explain import explain

            if "--debug" in words:
                traceback.print_exc()
            print("tinyllm: error: " + "; ".join([explain(error), *_notes(error)]), file=sys.stderr)
            try:
                sys.stdout.flush()
            except OSError:  # the error was the output's own: a full disk behind `>`
                _give_up_output()
            return 2


if __name__ == "__main__":
    sys.exit(main())

"""What you type: the command `tinyllm`, one file a verb.

`main` finds the verb and turns errors into one line; `parser` and `settings` make options from dataclasses; `progress`
shows long work. `stages` holds the journey from text to model as functions, which the verbs `train` and `quickstart`
walk through. A verb's file has add_parser(subparsers) and run(args) -> exit code, and imports what is heavy inside them.
"""

__all__ = []  # type: list[str]

"""What a chat in the terminal remembers, and the /commands that change it. It prints nothing: `chat.py` does.

The whole conversation is kept, also what the model is not given any more: it can be saved, and undone.
A saved conversation is a line of JSON, {"messages": [...]}, the form in which chats are published and trained on.
"""

import dataclasses
import json
import os
import shlex
from pathlib import Path
from typing import Any

from tinyllm.chat import newest_turns
from tinyllm.decoding import GenerationConfig
from tinyllm.storage import write_file
from tinyllm.storage.explain import nearest

COMMANDS = {  # name -> (what may follow it, what it does)
    "help": ("", "this list"),
    "reset": ("", "begin a new conversation; the system message stays"),
    "undo": ("", "take your last message and its answer back"),
    "system": ("TEXT", "tell the model how to behave; without TEXT, no more"),
    "temperature": ("X", "0: always the likeliest token; 1: as the model believes"),
    "save": ("FILE", "write the conversation to a file, as JSON"),
    "quit": ("", "end the chat (Ctrl-D does too)"),
}


class Conversation:
    """Messages, the system message apart from them, and the settings of generation. `ended` after /quit.

    turns: how many of the newest the model is given; None for as many as its context holds
    """

    def __init__(self, config: GenerationConfig, *, system: str = ""):
        self.config, self.system = config, system
        self.messages: list[dict[str, str]] = []
        self.turns: int | None = None
        self.ended = False
        self._written: set[Path] = set()

    def with_message(self, text: str) -> list[dict[str, str]]:
        """What the model is given: the newest turns and the user's next message; nothing is remembered yet."""
        return newest_turns([*self._all(), {"role": "user", "content": text}], self.turns)

    def add(self, text: str, answer: list[dict[str, str]]) -> None:
        """Remember a turn: what the user said, and the assistant's messages."""
        self.messages += [{"role": "user", "content": text}, *answer]

    def _all(self) -> list[dict[str, str]]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self.messages]

    def command(self, line: str) -> str:
        """Do what a line such as "/temperature 0.5" says; returns what to tell the user. ValueError if it cannot be done."""
        name, _, rest = line.removeprefix("/").partition(" ")
        if name not in COMMANDS:
            near = nearest(name, COMMANDS)
            hint = f"did you mean /{near}?" if near else "/help shows the commands"
            raise ValueError(f"unknown command /{name}; {hint} (a message that begins with / is written with //)")
        rest = rest.strip()
        if rest and not COMMANDS[name][0]:
            raise ValueError(f"/{name} stands alone, got {rest!r} behind it")
        act: Any = getattr(self, f"_{name}")
        return act(rest) if COMMANDS[name][0] else act()

    def _help(self) -> str:
        shown = {f"/{name} {what}".rstrip(): text for name, (what, text) in COMMANDS.items()}
        width = max(map(len, shown))
        return "\n".join(f"  {usage:<{width}}  {text}" for usage, text in shown.items())

    def _reset(self) -> str:
        self.messages = []
        return "a new conversation"

    def _quit(self) -> str:
        self.ended = True
        return ""

    def _undo(self) -> str:
        starts = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
        if not starts:
            raise ValueError("/undo: nothing has been said yet")
        text = self.messages[starts[-1]]["content"]
        del self.messages[starts[-1] :]
        return f"taken back: {text if len(text) <= 60 else text[:60] + '...'}"

    def _system(self, text: str) -> str:
        self.system = text
        return "the model sees it from the next message on" if text else "no system message any more"

    def _temperature(self, text: str) -> str:
        if not text:
            return f"the temperature is {self.config.temperature:g}"
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"/temperature: got {text!r}, expected a number such as 0.7") from None
        self.config = dataclasses.replace(self.config, temperature=value)
        return f"the temperature is {value:g}"

    def _save(self, text: str) -> str:
        words = shlex.split(text) if text.startswith(("'", '"')) else [text]
        if not text or not words[0]:
            raise ValueError("/save: expected a file's name behind it, such as /save chat.jsonl")
        if not self.messages:
            raise ValueError("/save: nothing has been said yet")
        path = Path(os.path.expanduser(words[0])).absolute()
        if path.exists() and path not in self._written:
            raise ValueError(f"/save: {words[0]} exists already; choose another name")
        write_file(path, json.dumps({"messages": self._all()}, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._written.add(path)
        return f"saved {len(self._all())} messages to {words[0]}"

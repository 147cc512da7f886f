"""Talking with a model: a turn is generated, a tool may be called on the way, and what was said is remembered.

reply.py         one turn                               calculator.py    the tool that a model may call in it
settings.py      what a chat should know of its model   conversation.py  what a chat in the terminal remembers
"""

from tinyllm.chat.calculator import calculate
from tinyllm.chat.reply import Dropped, Piece, Reply, ToolCall, crop_history, reply
from tinyllm.chat.settings import ChatSettings, newest_turns, read_chat_settings

__all__ = [
    "ChatSettings", "Dropped", "Piece", "Reply", "ToolCall", "calculate", "crop_history", "newest_turns", "read_chat_settings",
    "reply",
]  # fmt: skip

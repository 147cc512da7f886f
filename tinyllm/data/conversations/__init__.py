"""Conversations: `messages` and `preferences` (the formats in which people publish them), `packing` (batches of them)."""

from tinyllm.data.conversations.messages import read_conversations
from tinyllm.data.conversations.packing import PackedConversations, PaddedConversations, conversation_batches
from tinyllm.data.conversations.preferences import Preference, read_preferences, write_preferences

__all__ = [
    "PackedConversations",
    "PaddedConversations",
    "Preference",
    "conversation_batches",
    "read_conversations",
    "read_preferences",
    "write_preferences",
]

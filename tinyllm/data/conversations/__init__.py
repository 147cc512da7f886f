"""Conversations: `messages` and `preferences` (the formats in which people publish them), `packing` (batches of them)."""

"""From text to batches, in three rooms; each can be read alone.

text/           where text comes from, token files, mixtures, windows: for pre-training
conversations/  published formats of conversations and preferences, and batches of them: for fine-tuning
tasks/          questions whose right answers a program knows, and a world of small news: made, as many as wanted

`batches.py` (what a training loop reads, and epochs that can be resumed), `records.py` (files of JSON objects) and `split.py`
(what is held out) serve all three.
"""

from tinyllm.data.batches import Batch, BatchSource
from tinyllm.data.conversations.messages import read_conversations
from tinyllm.data.conversations.packing import PackedConversations, PaddedConversations, conversation_batches
from tinyllm.data.conversations.preferences import Preference, read_preferences, write_preferences
from tinyllm.data.records import ReadReport
from tinyllm.data.split import hold_out, shared_text, split_documents, split_sources, split_tail
from tinyllm.data.tasks.instructions import Instruction, is_correct, make_instructions
from tinyllm.data.tasks.news import Story, make_story, make_summary, story_prompt
from tinyllm.data.text.corpus import read_corpus
from tinyllm.data.text.documents import Source, cut_at_paragraphs, limit_bytes
from tinyllm.data.text.download import cache_folder, download
from tinyllm.data.text.mixture import Mixture, MixtureSource, mix
from tinyllm.data.text.shards import Shard, ShardHeader, open_shard, read_header, verify, write_shard
from tinyllm.data.text.standard_library import read_standard_library
from tinyllm.data.text.windows import EvaluationWindows, MixtureWindows, RandomWindows

__all__ = [
    "Batch", "BatchSource", "EvaluationWindows", "Instruction", "Mixture", "MixtureSource", "MixtureWindows",
    "PackedConversations", "PaddedConversations", "Preference", "RandomWindows", "ReadReport", "Shard", "ShardHeader", "Source",
    "Story", "cache_folder", "conversation_batches", "cut_at_paragraphs", "download", "hold_out", "is_correct", "limit_bytes",
    "make_instructions", "make_story", "make_summary", "mix", "open_shard", "read_conversations", "read_corpus", "read_header",
    "read_preferences", "read_standard_library", "shared_text", "split_documents", "split_sources", "split_tail", "story_prompt",
    "verify", "write_preferences", "write_shard",
]  # fmt: skip

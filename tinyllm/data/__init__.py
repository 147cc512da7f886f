"""From text to batches: documents, what is held out, token files, mixtures, windows.

Read in this order: `corpus` (where text comes from; `standard_library` and `download` are two of the places),
`documents` (what it is cut into), `split` (what is held out), `shards` (token files), `mixture`, `batches`.
Conversations: `messages` and `preferences` (published formats), `packing` (batches).
"""

from tinyllm.data.batches import Batch, BatchSource, EvaluationWindows, MixtureWindows, RandomWindows
from tinyllm.data.corpus import read_corpus
from tinyllm.data.documents import Source, cut_at_paragraphs, limit_bytes
from tinyllm.data.download import cache_folder, download
from tinyllm.data.instructions import Instruction, is_correct, make_instructions
from tinyllm.data.messages import read_conversations
from tinyllm.data.mixture import Mixture, MixtureSource, mix
from tinyllm.data.news import Story, make_story, make_summary, story_prompt
from tinyllm.data.packing import PackedConversations, PaddedConversations, conversation_batches
from tinyllm.data.preferences import Preference, read_preferences, write_preferences
from tinyllm.data.records import ReadReport
from tinyllm.data.shards import Shard, ShardHeader, open_shard, read_header, verify, write_shard
from tinyllm.data.split import hold_out, shared_text, split_documents, split_sources, split_tail
from tinyllm.data.standard_library import read_standard_library

__all__ = [
    "Batch",
    "BatchSource",
    "EvaluationWindows",
    "Instruction",
    "Mixture",
    "MixtureSource",
    "MixtureWindows",
    "PackedConversations",
    "PaddedConversations",
    "Preference",
    "RandomWindows",
    "ReadReport",
    "Shard",
    "ShardHeader",
    "Source",
    "Story",
    "cache_folder",
    "conversation_batches",
    "cut_at_paragraphs",
    "download",
    "hold_out",
    "is_correct",
    "limit_bytes",
    "make_instructions",
    "make_story",
    "make_summary",
    "mix",
    "open_shard",
    "read_conversations",
    "read_corpus",
    "read_header",
    "read_preferences",
    "read_standard_library",
    "shared_text",
    "split_documents",
    "split_sources",
    "split_tail",
    "story_prompt",
    "verify",
    "write_preferences",
    "write_shard",
]

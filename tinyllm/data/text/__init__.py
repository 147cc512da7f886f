"""Text to learn from: read, cut, encoded, mixed, and drawn in windows.

Read in this order: `corpus` (where text comes from; `standard_library` and `download` are two of the places),
`documents` (what it is cut into), `shards` (token files), `mixture`, `windows` (batches).
"""

from tinyllm.data.text.corpus import read_corpus
from tinyllm.data.text.documents import Source, cut_at_paragraphs, limit_bytes
from tinyllm.data.text.download import cache_folder, download
from tinyllm.data.text.mixture import Mixture, MixtureSource, mix
from tinyllm.data.text.shards import Shard, ShardHeader, open_shard, read_header, verify, write_shard
from tinyllm.data.text.standard_library import read_standard_library
from tinyllm.data.text.windows import EvaluationWindows, MixtureWindows, RandomWindows

__all__ = [
    "EvaluationWindows",
    "Mixture",
    "MixtureSource",
    "MixtureWindows",
    "RandomWindows",
    "Shard",
    "ShardHeader",
    "Source",
    "cache_folder",
    "cut_at_paragraphs",
    "download",
    "limit_bytes",
    "mix",
    "open_shard",
    "read_corpus",
    "read_header",
    "read_standard_library",
    "verify",
    "write_shard",
]

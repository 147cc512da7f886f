"""From text to batches: documents, what is held out, token files, mixtures, windows.

Read in this order: `corpus` (where text comes from; `standard_library` and `download` are two of the places),
`documents` (what it is cut into), `split` (what is held out), `shards` (token files), `mixture`, `batches`.
"""

from tinyllm.data.batches import Batch, BatchSource, EvaluationWindows, MixtureWindows, RandomWindows
from tinyllm.data.corpus import read_corpus
from tinyllm.data.documents import Source, cut_at_paragraphs, limit_bytes
from tinyllm.data.download import cache_folder, download
from tinyllm.data.mixture import Mixture, MixtureSource, mix
from tinyllm.data.shards import Shard, ShardHeader, open_shard, read_header, verify, write_shard
from tinyllm.data.split import split_documents, split_tail
from tinyllm.data.standard_library import read_standard_library

__all__ = [
    "Batch",
    "BatchSource",
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
    "split_documents",
    "split_tail",
    "verify",
    "write_shard",
]

"""Files that survive: atomic writes, checked JSON, safetensors, and manifests. Knows arrays and bytes, no Tensor.

Read in this order: `strict_json` (what a file may say), `atomic` (how to write one), `manifest` (when a folder is
whole), `safetensors` (how arrays are stored), `sharded` (in several files), `foreign` (what came in a file's place).
Every malformed file raises `FormatError`, a ValueError whose text names the file, the field, what was expected and what
was found.
"""

from tinyllm.storage import atomic, manifest, safetensors, sharded, strict_json
from tinyllm.storage.atomic import remove_folder, remove_leftovers, write_file, write_folder
from tinyllm.storage.checkout import install_command
from tinyllm.storage.strict_json import FormatError

__all__ = [
    "FormatError", "atomic", "install_command", "manifest", "remove_folder", "remove_leftovers", "safetensors", "sharded",
    "strict_json", "write_file", "write_folder",
]  # fmt: skip

"""Names of files that are no text, written where only text can stand.

A name on a disk is bytes. An old one may be Latin-1 ("caf\\xe9.txt"), which is no UTF-8: Python then carries the odd bytes as
lone surrogates (PEP 383), and every JSON file refuses those. So in files of ours such a byte stands as \\xe9, as `ls -b`
shows it, and what is read back is the name again if there is a file of that name.
"""

import os
import re
from collections.abc import Callable
from typing import Any

_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def name_as_text(name: str | os.PathLike[str]) -> str:
    """The name with each byte that is no UTF-8 as \\xe9. All other names are unchanged."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def name_from_text(text: str) -> str:
    """The name that `name_as_text` wrote as `text`, if something has it; else `text` itself."""
    if "\\x" not in text or os.path.lexists(os.path.expanduser(text)):
        return text
    name = os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), os.fsencode(text)))
    return name if os.path.lexists(os.path.expanduser(name)) else text


def change_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with `change` done to each text in it (not to keys)."""
    if isinstance(value, dict):
        return {key: change_texts(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [change_texts(one, change) for one in value]
    return change(value) if isinstance(value, str) else value

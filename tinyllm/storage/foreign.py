"""What a file really is that does not hold what its name promises: a pointer, a web page, an archive.

Files of models are large, so what lies in a folder is often something that stands for them, or that came in their place.
Each such thing begins with bytes of its own; with them an error can say what to do, where a parser could only say what it
stumbled over.
"""

import re

LENGTH = 400  # so many bytes from a file's start are enough
_STARTS = (
    (b"PK\x03\x04", "a zip archive, as PyTorch's .bin and .pt files are; save the model as safetensors"),
    (b"\x80\x02", "a pickle, which is a program and is not run here; save the model as safetensors"),
    (b"\x80\x03", "a pickle, which is a program and is not run here; save the model as safetensors"),
    (b"\x80\x04", "a pickle, which is a program and is not run here; save the model as safetensors"),
    (b"\x80\x05", "a pickle, which is a program and is not run here; save the model as safetensors"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file; save the model as safetensors"),
    (b"GGUF", "a GGUF file, another format"),
    (b"\x93NUMPY", "a NumPy array (.npy), another format"),
)


def recognised(start: bytes) -> str | None:
    """What a file is that begins with `start` (LENGTH bytes of it, or all), and what to do; None if it is nothing known here."""
    if start.startswith(b"version https://git-lfs"):
        size = re.search(rb"\nsize (\d{1,15})\b", start)
        of = f" of {int(size.group(1)):,} bytes" if size else ""
        return f"a Git LFS pointer to the real file{of}; get that with `git lfs pull`"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "a web page, not the file that was to be downloaded; download it again"
    return next((words for magic, words in _STARTS if start.startswith(magic)), None)

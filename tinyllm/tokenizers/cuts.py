"""How a tokenizer cuts a text, made visible: tokens side by side, with what cannot be printed written out."""

from collections.abc import Iterable

from tinyllm.tokenizers.bpe import BPETokenizer
from tinyllm.tokenizers.tokenizer import Tokenizer

LONGEST_SHOWN = 12  # tokens
LONGEST_EXPLAINED = 60  # bytes, of a text whose merges are shown
COLOURS = (44, 42, 45, 46, 43)  # ANSI backgrounds, in turn, so that neighbours differ


def visible(token: bytes) -> str:
    """A token as one printable line: control characters as \\n or \\x1b, bytes that are no UTF-8 as \\xff."""
    text = token.decode("utf-8", "surrogateescape")
    shown = []
    for character in text:
        if "\udc80" <= character <= "\udcff":
            shown.append(f"\\x{ord(character) - 0xDC00:02x}")
        else:
            shown.append(character if character.isprintable() else repr(character)[1:-1])
    return "".join(shown)


def mark_tokens(tokens: Iterable[bytes], *, colour: bool) -> str:
    """Tokens side by side, each in brackets, or each on a coloured ground."""
    if colour:
        return "".join(f"\x1b[30;{COLOURS[i % len(COLOURS)]}m{visible(t)}\x1b[0m" for i, t in enumerate(tokens))
    return "".join(f"[{visible(token)}]" for token in tokens)


def facts(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """What a tokenizer is, as (name, value)."""
    special = set(tokenizer.special_tokens.values())
    ordinary = [token for index, token in enumerate(tokenizer.tokens) if index not in special]
    longest = sorted(ordinary, key=len, reverse=True)[:LONGEST_SHOWN]
    own = []
    if isinstance(tokenizer, BPETokenizer):
        merges = "by rank" if tokenizer.merges is None else f"{len(tokenizer.merges):,}"
        own = [("merges", merges), ("pattern", tokenizer.pattern.name)]
    return [
        ("kind", type(tokenizer).__name__),
        ("vocabulary", f"{tokenizer.vocab_size:,} tokens"),
        *own,
        ("special", ", ".join(f"{text} = {index}" for text, index in tokenizer.special_tokens.items()) or "none"),
        ("mean length", f"{sum(map(len, ordinary)) / max(len(ordinary), 1):.2f} bytes"),
        ("longest", mark_tokens(longest, colour=False).replace("][", "] [")),
        ("fingerprint", tokenizer.fingerprint()),
    ]


def merges_of(tokenizer: Tokenizer, data: bytes) -> list[str]:
    """Every merge, a line each, for a text that is a single piece; nothing for others, which would fill pages."""
    if not isinstance(tokenizer, BPETokenizer) or not 0 < len(data) <= LONGEST_EXPLAINED:
        return []
    explained = tokenizer.explain(data)
    return [mark_tokens(step, colour=False) for step in explained[0]] if len(explained) == 1 else []

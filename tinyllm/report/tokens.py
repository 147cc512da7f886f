"""A page that shows how a tokenizer cuts a text: every token with its id and its bytes, and how each word came to be cut so."""

from collections.abc import Iterator

from tinyllm.report.page import cards, escaped, page, section, table
from tinyllm.tokenizers import BPETokenizer, Tokenizer
from tinyllm.tokenizers.characters import to_text
from tinyllm.tokenizers.cuts import mark_tokens, visible

MOST_SHOWN, MOST_LISTED, MOST_WORDS = 4000, 400, 60
N_GROUNDS = 5  # colours, in turn


def tokens_page(tokenizer: Tokenizer, text: str | bytes, *, name: str) -> str:
    """The page. Very long texts are shown by their beginning, and that is said."""
    given = to_text(text)
    encoding = tokenizer.encoding(given, add_template=False)
    n, n_bytes = len(encoding.ids), len(given.encode("utf-8", "surrogateescape"))
    kind = type(tokenizer).__name__
    numbers = cards([
        (f"{n:,}", "tokens", f"of {len(given):,} characters"),
        (f"{n_bytes / max(n, 1):.2f}", "bytes per token", f"{n_bytes:,} bytes"),
        (f"{len(set(encoding.ids)):,}", "different tokens", f"of {tokenizer.vocab_size:,} there are"),
    ])  # fmt: skip
    cut = "" if n <= MOST_SHOWN else f" Of {n:,} tokens the first {MOST_SHOWN:,} are shown."
    chips = "".join(_chips(tokenizer, encoding.ids[:MOST_SHOWN]))
    rows = [
        (i, token, visible(tokenizer.token_bytes(token)), tokenizer.token_bytes(token).hex(" "), f"{begin} to {end}")
        for i, (token, (begin, end)) in enumerate(zip(encoding.ids[:MOST_LISTED], encoding.offsets, strict=False))
    ]
    listed = "" if n <= MOST_LISTED else f" The first {MOST_LISTED:,} of them."
    return page(
        f"{name}: tokens",
        f"<h1>{escaped(name)}</h1>",
        f'<p class="about">{escaped(kind)}. This is what a model reads of the text: numbers, one for each piece.</p>',
        numbers,
        section("The text in tokens", f"Below each piece is its id.{cut}", f'<div class="tokens">{chips}</div>'),
        section(
            "Token by token", f"Bytes are in hexadecimal; places count the text's characters.{listed}",
            table(["#", "id", "token", "bytes", "characters"], rows, n_text=5),
        ),
        section("Merge by merge", "How the different words became tokens: one pair of neighbours joins at each step.",
                *_steps(tokenizer, given)),
    )  # fmt: skip


def _chips(tokenizer: Tokenizer, ids: list[int]) -> Iterator[str]:
    """A piece of text on a coloured ground, with its id; line ends end lines."""
    for i, token in enumerate(ids):
        data = tokenizer.token_bytes(token)
        yield f'<span class="g{i % N_GROUNDS}"><code>{escaped(visible(data)) or "&nbsp;"}</code><small>{token}</small></span>'
        yield "<i></i>" if data.endswith(b"\n") else ""


def _steps(tokenizer: Tokenizer, text: str) -> list[str]:
    """Each different word of several tokens or steps, folded; only BPE has steps."""
    if not isinstance(tokenizer, BPETokenizer):
        return []
    shown: dict[str, str] = {}
    for piece in tokenizer.pattern.split(tokenizer.normalizer(text)):
        if piece in shown or len(piece) > MOST_WORDS or len(shown) >= MOST_WORDS:
            continue
        steps = [mark_tokens(step, colour=False) for step in tokenizer.explain(piece)[0]]
        if len(steps) > 1:
            lines = escaped("\n".join(steps))
            shown[piece] = (
                f"<details><summary>{escaped(repr(piece))}, {len(steps) - 1} merges</summary><pre>{lines}</pre></details>"
            )
    return list(shown.values())

"""What was measured of a model, as text: the result of `recipes/evaluate.py` for a reader."""

from collections.abc import Iterator, Mapping
from typing import Any


def as_text(report: Mapping[str, Any]) -> str:
    """The report, a line a measure."""
    return "\n".join(_lines(report))


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"{report['model']}: {report['parameters']:,} parameters"
    for text in report["texts"]:
        yield f"\n{text['name']}: {text['n_tokens']:,} tokens in {text['n_windows']:,} windows"
        yield f"  loss           {_number(text['loss'])} ± {_number(text['loss_standard_error'])} nats a token"
        yield f"  perplexity     {_number(text['perplexity'])} ± {_number(text['perplexity_standard_error'])}"
        yield f"  bits per byte  {_number(text['bits_per_byte'])}"
    for test in report["tests"]:
        left_out = f"; {test['n_left_out']:,} left out, too long for the context" if test["n_left_out"] else ""
        yield f"\n{test['name']}: {_share(test)}{left_out}"
        yield from (f"  {task:<14} {_share(found)}" for task, found in test["tasks"].items())


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _share(found: dict[str, Any]) -> str:
    error = f"{found['exact_match']:.1%} ± {found['standard_error']:.1%}"
    return f"{error} right ({found['right']:,} of {found['n']:,})"

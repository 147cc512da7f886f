"""How good is it? Perplexity on held-out text, exact match on instructions, and the report of a run."""

from tinyllm.evaluation.exact_match import ExactMatch, answer_all, measure_exact_match
from tinyllm.evaluation.perplexity import Perplexity, measure_perplexity, token_lengths
from tinyllm.evaluation.report import write_report

__all__ = [
    "ExactMatch",
    "Perplexity",
    "answer_all",
    "measure_exact_match",
    "measure_perplexity",
    "token_lengths",
    "write_report",
]

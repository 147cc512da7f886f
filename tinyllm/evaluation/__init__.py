"""How good is it? Perplexity on held-out text, and the report of a run."""

from tinyllm.evaluation.perplexity import Perplexity, measure_perplexity, token_lengths
from tinyllm.evaluation.report import write_report

__all__ = ["Perplexity", "measure_perplexity", "token_lengths", "write_report"]

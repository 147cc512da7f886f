"""How good is it? Perplexity on held-out text, exact match on questions with known answers. How it looks is in `report/`."""

from tinyllm.evaluation.exact_match import ExactMatch, answer_all, measure_exact_match
from tinyllm.evaluation.perplexity import Perplexity, measure_perplexity, token_lengths

__all__ = [
    "ExactMatch", "Perplexity", "answer_all", "measure_exact_match", "measure_perplexity", "token_lengths",
]  # fmt: skip

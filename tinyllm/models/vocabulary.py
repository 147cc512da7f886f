"""New special tokens for a model that has been trained: its token table grows by some rows.

    E[new] = mean over v of E[v] + ε,   ε ~ N(0, (0.1 std(E))²)

A row of fresh noise can score above every trained one and be written at once. The mean scores the average of all tokens
on any text, so the old probabilities hardly change: each shrinks by a factor of at least V / (V + new), since the new logit
is at most the logarithm of the mean of exp (Jensen; Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language
Models"). The little noise ε tells the new tokens apart. Ids that a padded table has and no token uses are filled first.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from tinyllm.models.registry import Model, make_model
from tinyllm.nn import Embedding
from tinyllm.tokenizers import Tokenizer

NOISE = 0.1  # of the table's standard deviation


def extend_vocabulary(
    model: Model, tokenizer: Tokenizer, names: Iterable[str], *, rng: np.random.Generator
) -> tuple[Model, Tokenizer]:
    """(model, tokenizer) with the special tokens `names` added; both are new, the old ones are left as they are.

    Names that the tokenizer has already are skipped; if none is left, what was given is returned. `rng` draws ε, nothing
    else changes: the old tokens keep their logits. ValueError for a tokenizer that is larger than the model's
    table, int8 weights, or a name that cannot be a special token.
    """
    if not isinstance(model.tokens, Embedding):
        raise ValueError(f"model: its token table is a {type(model.tokens).__name__}; extend the float model, then quantize it")
    n_used, n_rows = tokenizer.vocab_size, model.config.vocab_size
    if n_used > n_rows:
        raise ValueError(f"tokenizer: has {n_used} tokens, more than the model's vocab_size {n_rows}; is it the model's own?")
    extended = tokenizer.with_special_tokens(names)
    if extended is tokenizer:
        return model, tokenizer
    config = dataclasses.replace(model.config, vocab_size=max(extended.vocab_size, n_rows))
    state = model.state_dict()
    tables = [name for name in ("tokens.weight", "head.weight") if name in state]  # the second where it is not the first
    grown = make_model(config, rng=None)
    grown.load_state_dict({**state, **{name: _grow(state[name], n_used, extended.vocab_size, rng) for name in tables}})
    return grown.train(model.training), extended  # type: ignore[return-value]


def _grow(table: np.ndarray, n_used: int, n_wanted: int, rng: np.random.Generator) -> np.ndarray:
    """table (V, C) -> (max(V, n_wanted), C): rows n_used to n_wanted are new, all others as they were."""
    used = table[:n_used].astype(np.float64)
    new = used.mean(axis=0) + NOISE * used.std() * rng.standard_normal((n_wanted - n_used, table.shape[1]))
    return np.concatenate([table[:n_used], new.astype(table.dtype), table[n_wanted:]])

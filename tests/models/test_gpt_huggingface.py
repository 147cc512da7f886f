"""A GPT-2 saved by transformers, read by us: the same logits and the same text (fixtures/make_gpt2_tiny.py)."""

from pathlib import Path

import numpy as np
import pytest

from tinyllm import no_grad
from tinyllm.decoding import generate
from tinyllm.models import GPT

FOLDER = Path(__file__).parents[1] / "fixtures" / "gpt2_tiny"
EXPECTED = np.load(FOLDER / "expected.npz")


@pytest.fixture(scope="module")
def gpt2():
    return GPT.from_pretrained(FOLDER)


def test_logits_are_those_of_transformers(gpt2):
    with no_grad():
        logits = gpt2(EXPECTED["inputs"]).data
    assert np.abs(EXPECTED["logits"]).max() > 5  # wide logits, so that the tolerance means something
    np.testing.assert_allclose(logits, EXPECTED["logits"], atol=1e-4)


def test_a_hundred_greedy_tokens_are_those_of_transformers(gpt2):
    result = generate(gpt2, [EXPECTED["greedy_prompt"]], max_new_tokens=100, temperature=0)
    assert result.tokens[0] == EXPECTED["greedy_tokens"].tolist()

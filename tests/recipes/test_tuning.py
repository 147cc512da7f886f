"""What the recipes after pre-training share: the model to begin with, and what fits into memory."""

import numpy as np
import pytest

from tinyllm.models import GPT, load_tokenizer_for
from tinyllm.nn import add_lora
from tinyllm.recipes import tuning
from tinyllm.tokenizers import CONTROL_TOKENS


def test_a_base_model_gets_the_control_tokens_and_keeps_its_old_rows(base):
    model, tokenizer = tuning.load_for_chat(str(base), seed=1)
    assert all(name in tokenizer.special_tokens for name in CONTROL_TOKENS)
    assert model.config.vocab_size == tokenizer.vocab_size == 257 + len(CONTROL_TOKENS)
    before = GPT.from_pretrained(base).state_dict()["tokens.weight"]
    assert np.array_equal(model.state_dict()["tokens.weight"][:257], before)


def test_the_new_rows_follow_from_the_seed(base):
    one, same, other = (tuning.load_for_chat(str(base), seed=seed)[0].state_dict()["tokens.weight"] for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_a_model_that_can_chat_stays_as_it_is(judge, base, tmp_path):
    model, tokenizer = tuning.load_for_chat(str(base), seed=1)
    model.save_pretrained(tmp_path / "chat", tokenizer)
    again, same = tuning.load_for_chat(str(tmp_path / "chat"), seed=2)
    assert same.fingerprint() == tokenizer.fingerprint() == load_tokenizer_for(judge / "model").fingerprint()
    assert np.array_equal(again.state_dict()["tokens.weight"], model.state_dict()["tokens.weight"])


def test_weights_that_are_no_numbers_are_refused_by_name(broken, base):
    with pytest.raises(ValueError, match="the weight tokens.weight in .*broken holds a value that is not finite"):
        tuning.load_for_chat(str(broken), seed=1)
    tuning.check_finite(GPT.from_pretrained(base), base)


def test_more_rows_than_memory_are_refused_and_lora_needs_less(base, monkeypatch):
    model = GPT.from_pretrained(base)
    with pytest.raises(ValueError, match="^batch_size: 1,000,000,000 rows of 192 tokens need about .* GB, and .* are free"):
        tuning.refuse_too_large(model, rows=10**9)
    from tinyllm.training import estimate_memory

    need = estimate_memory(model, batch_size=2)
    monkeypatch.setattr("tinyllm.recipes.tuning.available_memory", lambda: need.total - 1)
    with pytest.raises(ValueError, match="2 rows"):
        tuning.refuse_too_large(model, rows=2)
    add_lora(model, rank=1, alpha=1.0, rng=np.random.default_rng(0))
    tuning.refuse_too_large(model, rows=2)

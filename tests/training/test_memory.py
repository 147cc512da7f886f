"""Facts about the memory estimate: it counts what is allocated, and refuses before anything is."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
import tiny_run

from tinyllm import kernels
from tinyllm.data.text.windows import RandomWindows
from tinyllm.models import GPTConfig, LlamaConfig, make_model
from tinyllm.pretraining import next_token_loss
from tinyllm.training import TrainConfig, available_memory, check_memory, estimate_memory, memory, train

SMALL = GPTConfig(vocab_size=512, block_size=64, n_layers=4, n_heads=4, d_model=128)
MODEL = make_model(SMALL, rng=None)
LLAMA = LlamaConfig(vocab_size=512, block_size=64, n_layers=4, n_heads=4, n_kv_heads=2, d_model=128, tied=True)
CONFIGS = {
    "activations weigh most": (SMALL, 12),
    "logits weigh most": (dataclasses.replace(SMALL, vocab_size=8000, n_layers=1), 8),
    "weights weigh most": (dataclasses.replace(SMALL, d_model=256, bias=False), 1),
    "a llama": (LLAMA, 12),
    "a llama with dropout, wide heads and normed queries": (
        dataclasses.replace(LLAMA, dropout=0.1, head_dim=64, qk_norm=True, n_kv_heads=4),
        8,
    ),
    "with dropout": (dataclasses.replace(SMALL, dropout=0.1), 8),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_estimate_is_close_to_the_measured_peak(name):
    config, batch_size = CONFIGS[name]
    rng = np.random.default_rng(0)
    text = rng.integers(0, config.vocab_size, 1000)
    settings = TrainConfig(max_steps=2, gradient_accumulation=2, batch_size=batch_size)
    list(train(*made(tiny_run.MODEL, text[:0], rng), config=settings, loss_fn=next_token_loss))  # compiles the kernels
    tracemalloc.start()
    list(train(*made(config, text, rng, batch_size), config=settings, loss_fn=next_token_loss))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    estimate = estimate_memory(make_model(config, rng=None), batch_size=batch_size)
    highest = 1.25 if kernels.backend() == "numba" else 3  # the NumPy twins hold temporaries as large as the logits
    assert 0.75 < peak / (estimate.total - estimate.base) < highest


def made(config, text, rng, batch_size=2):
    """A model and a source for it."""
    text = text if len(text) else rng.integers(0, config.vocab_size, 100)
    return make_model(config, rng=rng), RandomWindows(text, batch_size=batch_size, block_size=config.block_size, rng=rng)


def test_a_run_over_the_budget_is_refused_with_the_batch_that_fits():
    fixed, row = estimate_memory(MODEL, batch_size=0).total, memory.activation_bytes(MODEL, batch_size=1)
    assert check_memory(MODEL, batch_size=5, budget=fixed + 5 * row).total == fixed + 5 * row
    with pytest.raises(ValueError, match="batch_size 6 needs about .* GB .* the largest batch_size that fits is 5 "):
        check_memory(MODEL, batch_size=6, budget=fixed + 6 * row - 1)
    with pytest.raises(ValueError, match="not even one row fits: choose a smaller model or a shorter block_size"):
        check_memory(MODEL, batch_size=6, budget=fixed - 1)


def test_the_budget_is_the_smaller_of_container_and_machine(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "limit").write_text("5000000\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    3000 kB\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(tmp_path / "max"), str(tmp_path / "absent")))
    monkeypatch.setattr(memory, "_MEMINFO", str(tmp_path / "meminfo"))
    assert available_memory() == 3000 * 1024
    monkeypatch.setattr(memory, "_MEMINFO", str(tmp_path / "absent"))
    assert available_memory() is None
    assert check_memory(MODEL, batch_size=10**6).total > 10**12
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(tmp_path / "limit"),))
    assert available_memory() == 5_000_000
    with pytest.raises(ValueError, match="but 0.01 GB are available"):
        check_memory(MODEL, batch_size=1)

"""Samples during training: their look, their file, their randomness."""

import json

import numpy as np
import pytest

from tinyllm.models import GPT, GPTConfig
from tinyllm.recipes.samples import SampleConfig, SampleRecord, append_sample, drop_samples_from, write_samples
from tinyllm.tokenizers import ByteTokenizer


def sample(step, text="abc"):
    return SampleRecord(step, "In ", text, 0.8)


def test_samples_are_appended_and_forgotten_by_step(tmp_path):
    for step in (0, 5, 10):
        append_sample(tmp_path, sample(step))
    drop_samples_from(tmp_path, 10)
    records = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 5]
    assert records[0] == {"event": "sample", "step": 0, "prompt": "In ", "text": "abc", "temperature": 0.8}


def test_the_same_seed_and_step_write_the_same_and_leave_the_model_as_it_was():
    model = GPT(GPTConfig(257, 16, n_layers=1, n_heads=1, d_model=8, dropout=0.5), rng=np.random.default_rng(0))
    before = model.dropout.rng.bit_generator.state
    config = SampleConfig(n_samples=2, sample_tokens=20)
    first, again, other = (list(write_samples(model, ByteTokenizer(), config, step=step, seed=1)) for step in (3, 3, 4))
    assert first == again
    assert first[0].text != first[1].text and first[0].text != other[0].text
    assert model.training and model.dropout.rng.bit_generator.state == before


@pytest.mark.parametrize("bad", [{"n_samples": -1}, {"sample_tokens": 0}, {"sample_temperature": -1}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError):
        SampleConfig(**bad)

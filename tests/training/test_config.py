"""Facts about the training settings: what makes no sense is refused by name."""

import pytest

from tinyllm.training import TrainConfig


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"max_steps": 0}, "max_steps must be a whole number of at least 1, got 0"),
        ({"gradient_accumulation": True}, "gradient_accumulation must be a whole number of at least 1, got True"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number of at least 0, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0, got nan"),
        ({"weight_decay": -0.1}, "weight_decay must be a number of at least 0, got -0.1"),
        ({"grad_clip": "1"}, "grad_clip must be a number of at least 0, got '1'"),
        ({"beta2": 1.0}, "beta2 must be a number of at least 0 and below 1, got 1.0"),
        ({"beta1": "x"}, "beta1 must be a number of at least 0 and below 1, got 'x'"),
        ({"schedule": "cosin"}, r"schedule must be one of .* got 'cosin' \(did you mean 'cosine'\?\)"),
        ({"learning_rate": 1e-5}, "min_learning_rate 0.0001 is above learning_rate 1e-05; lower it"),
    ],
)
def test_a_senseless_setting_is_refused_by_name(change, text):
    with pytest.raises(ValueError, match=text):
        TrainConfig(**change)


@pytest.mark.parametrize("schedule", ["cosine", "stable-decay", "constant"])
def test_the_learning_rate_warms_up_to_its_peak_and_ends_at_its_floor(schedule):
    config = TrainConfig(max_steps=100, warmup_steps=10, learning_rate=1.0, min_learning_rate=0.1, schedule=schedule)
    rates = [config.learning_rate_at(step) for step in range(101)]
    assert rates[:11] == sorted(rates[:11]) and rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1.0
    assert rates[100] == pytest.approx(1.0 if schedule == "constant" else 0.1)

import dataclasses

import numpy as np
import pytest

from tinyllm.decoding import GenerationConfig
from tinyllm.decoding.config import make_config


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of at least 1, got 0"),
        ({"max_new_tokens": 2.0}, "max_new_tokens must be .* got 2.0"),
        ({"max_new_tokens": True}, "max_new_tokens must be .* got True"),
        ({"temperature": -1.0}, "temperature must be a number of at least 1e-05, got -1.0, or 0 for the likeliest token"),
        ({"temperature": float("nan")}, "temperature must be .* got nan"),
        ({"temperature": "hot"}, "temperature must be .* got 'hot'"),
        ({"temperature": 1e-9}, "temperature must be .* got 1e-09"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1 or None, got 0"),
        ({"top_p": 0.0}, "top_p must be a number above 0 and at most 1 or None, got 0.0"),
        ({"top_p": 1.5}, "top_p must be .* got 1.5"),
        ({"min_p": -0.1}, "min_p must be .* got -0.1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be a number above 0, got 0"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be a whole number of at least 0, got -1"),
        ({"n_beams": 0}, "n_beams must be .* got 0"),
        ({"length_penalty": float("inf")}, "length_penalty must be .* got inf"),
        ({"length_penalty": 1e308}, "length_penalty must be a number from -50 to 50, got 1e[+]308"),
        ({"stop_tokens": 5}, r"stop_tokens is 5; expected a tuple of int, as in stop_tokens=\(5,\)"),
        ({"stop_tokens": (1.5,)}, "stop_tokens has 1.5"),
        ({"stop_strings": "User:"}, r"stop_strings is 'User:'; expected a tuple of str, as in stop_strings=\('User:',\)"),
        ({"stop_strings": ("a", "")}, "stop_strings has an empty string"),
        ({"n_beams": 4, "temperature": 0.7}, "temperature is 0.7 with n_beams 4; beam search does not sample"),
        ({"n_beams": 4, "top_p": 0.9}, "top_p is 0.9 with n_beams 4"),
    ],
)
def test_a_bad_setting_is_an_error_that_names_it(settings, message):
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**settings)


def test_an_unknown_setting_is_an_error_that_names_the_nearest():
    with pytest.raises(ValueError, match="temprature is not a generation setting; did you mean temperature?"):
        make_config(None, {"temprature": 1.0})


def test_single_settings_go_on_top_of_a_config_and_are_checked():
    config = make_config(GenerationConfig(top_k=5, temperature=0), {"top_k": 7})
    assert (config.top_k, config.temperature) == (7, 0)
    with pytest.raises(ValueError, match="top_k must be"):
        make_config(config, {"top_k": 0})


def test_stop_lists_become_tuples_of_plain_values():
    config = GenerationConfig(stop_tokens=np.array([3, 4, 3]), stop_strings=["x"])
    assert config.stop_tokens == (3, 4) and type(config.stop_tokens[0]) is int and config.stop_strings == ("x",)


def test_every_setting_has_a_default():
    assert dataclasses.asdict(GenerationConfig())["max_new_tokens"] == 128

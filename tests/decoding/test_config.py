import dataclasses

import numpy as np
import pytest

from tinyllm.decoding import GenerationConfig
from tinyllm.decoding.config import make_config


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; expected a whole number of at least 1"),
        ({"max_new_tokens": 2.0}, "max_new_tokens is 2.0"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"temperature": -1.0}, "temperature is -1.0; expected 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": 1e-9}, "temperature is 1e-09"),
        ({"top_k": 0}, "top_k is 0; expected a whole number of at least 1; for no limit pass None"),
        ({"top_p": 0.0}, "top_p is 0.0; expected a number above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"min_p": -0.1}, "min_p is -0.1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0; expected a number above 0"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size is -1"),
        ({"n_beams": 0}, "n_beams is 0"),
        ({"length_penalty": float("inf")}, "length_penalty is inf"),
        ({"length_penalty": 1e308}, "length_penalty is 1e[+]308; expected a number from -50 to 50"),
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
    with pytest.raises(ValueError, match="top_k is 0"):
        make_config(config, {"top_k": 0})


def test_stop_lists_become_tuples_of_plain_values():
    config = GenerationConfig(stop_tokens=np.array([3, 4, 3]), stop_strings=["x"])
    assert config.stop_tokens == (3, 4) and type(config.stop_tokens[0]) is int and config.stop_strings == ("x",)


def test_every_setting_has_a_default():
    assert dataclasses.asdict(GenerationConfig())["max_new_tokens"] == 128

"""What a terminal is shown."""

import pytest

from tinyllm.cli.terminal import harmless


@pytest.mark.parametrize(
    "text", ["\U0001f469\u200d\U0001f467", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "a\u00a0b\u3000c\n\td"]
)
def test_what_a_terminal_can_show_is_left_alone(text):
    assert harmless(text) == text


@pytest.mark.parametrize("character", ["\x1b", "\r", "\x07", "\x00", "\x9b", "\x7f", "\u202e", "\u2066", "\ud800"])
def test_what_steers_a_terminal_is_replaced(character):
    assert harmless(f"a{character}b") == "a\ufffdb"

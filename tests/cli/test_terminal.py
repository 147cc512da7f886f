"""What a terminal is shown."""

import pytest

from tinyllm.cli.terminal import harmless, sample_as_text
from tinyllm.recipes.samples import SampleRecord


@pytest.mark.parametrize(
    "text", ["\U0001f469\u200d\U0001f467", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "a\u00a0b\u3000c\n\td"]
)
def test_what_a_terminal_can_show_is_left_alone(text):
    assert harmless(text) == text


@pytest.mark.parametrize("character", ["\x1b", "\r", "\x07", "\x00", "\x9b", "\x7f", "\u202e", "\u2066", "\ud800"])
def test_what_steers_a_terminal_is_replaced(character):
    assert harmless(f"a{character}b") == "a\ufffdb"


def test_a_sample_is_shown_as_a_block_of_a_few_lines():
    def shown(text, prompt="In "):
        return sample_as_text(SampleRecord(1, prompt, text, 0.8))

    assert shown("the\n\nbeginning") == "  | In the\n  |\n  | beginning"
    assert shown("x" * 1000).splitlines() == ["  | In " + "x" * 97, *["  | " + "x" * 100] * 5, "  | ..."]
    assert shown("\x1b[2J\ta") == "  | In \ufffd[2J a"
    assert shown("\n", prompt="") == "  | (nothing: the text ended at once)"

from tinyllm.tokenizers.layout import BYTE_ORDER, CHARACTER_OF_BYTE, from_visible, to_visible


def test_every_byte_has_its_own_visible_character():
    assert len(set(CHARACTER_OF_BYTE.values())) == 256
    assert all(c.isprintable() and not c.isspace() for c in CHARACTER_OF_BYTE.values())
    assert from_visible(to_visible(bytes(range(256)))) == bytes(range(256))


def test_the_characters_are_gpt2s():
    assert to_visible(b" the\n\x00\x7f\xad\xff") == "ĠtheĊĀġŃÿ"
    assert BYTE_ORDER[:2] == (0x21, 0x22) and BYTE_ORDER[188:190] == (0, 1) and BYTE_ORDER[-1] == 0xAD


def test_other_characters_stand_for_no_byte():
    assert from_visible("a b") is None and from_visible("中") is None

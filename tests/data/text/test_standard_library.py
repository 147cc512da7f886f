import ast

import pytest

from tinyllm.data.split import shared_text, split_sources
from tinyllm.data.text import standard_library
from tinyllm.data.text.standard_library import docstrings_of, is_data_table, read_standard_library, without_docstrings

MODULE = '''"""About the module."""

import os


class Cat:
    """A cat."""

    def speak(self, *, loud=False):
        """Say meow.

        Twice.
        """
        return "meow"

    def sleep(self): "on one line"


if os.name:
    async def purr():
        r"""Only a docstring."""
'''


@pytest.fixture
def library(tmp_path):
    (tmp_path / "cat.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("print 'Python 2'\n" * 50)
    table = "names = {\n" + "".join(f"    {i}: 'name of {i}',\n" for i in range(200)) + "}\n"
    (tmp_path / "table.py").write_text(table)
    (tmp_path / "_sysconfigdata_x.py").write_text("build = 'this machine'\n" * 50)
    (tmp_path / "tiny.py").write_text("x = 1\n")
    for folder in ("test", "encodings", "site-packages"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cat.py").write_text(MODULE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(MODULE.replace("meow", "woof"))
    return tmp_path


def test_docstrings_stand_under_their_name_and_signature():
    assert docstrings_of("zoo.cat", ast.parse(MODULE)) == (
        "module zoo.cat\n    About the module.\n\n"
        "class zoo.cat.Cat\n    A cat.\n\n"
        "zoo.cat.Cat.speak(self, *, loud=False)\n    Say meow.\n\n    Twice.\n\n"
        "zoo.cat.Cat.sleep(self)\n    on one line\n\n"
        "zoo.cat.purr()\n    Only a docstring.\n"
    )


def test_source_without_docstrings_still_parses_and_keeps_code_that_shares_a_line():
    text = without_docstrings(MODULE, ast.parse(MODULE))
    assert [word in text for word in ("About", "A cat", "Twice", "Only a docstring")] == [False] * 4
    assert 'def sleep(self): "on one line"' in text and "async def purr():\n        ...\n" in text
    assert ast.dump(ast.parse(text).body[1].body[0].body[0]) == ast.dump(ast.parse('return "meow"', mode="exec").body[0])


def test_form_feeds_do_not_shift_the_cut():
    text = 'x = "\x0c"\n\x0c\ndef f():\n    """Gone."""\n    return 1\n'
    assert without_docstrings(text, ast.parse(text)) == 'x = "\x0c"\n\x0c\ndef f():\n    return 1\n'


def test_tests_tables_and_broken_files_are_left_out(library):
    docstrings, source = read_standard_library(("docstrings", "source"), library)
    assert len(source.documents) == 2
    assert [text.split(b"\n")[0] for text in docstrings.documents] == [b"module cat", b"module package"]


def test_equal_files_are_read_once(library):
    (library / "copy.py").write_text(MODULE)
    assert len(read_standard_library(("source",), library)[0].documents) == 2


def test_a_long_literal_makes_a_data_table_but_long_code_does_not():
    table = "x = 1\nnames = [\n" + "    1,\n" * 100 + "]\n"
    code = "def f():\n" + "    print([1,\n 2])\n" * 100
    assert is_data_table(ast.parse(table), n_lines=103)
    assert not is_data_table(ast.parse(code), n_lines=201)


def test_this_installation_has_a_corpus_of_three_sources():
    sources = read_standard_library()
    assert [source.name for source in sources] == ["reference", "docstrings", "source"]
    assert sources[0].n_bytes > 300_000 and sources[1].n_bytes > 1_000_000 and sources[2].n_bytes > 3_000_000
    for source in sources:
        assert len(set(source.documents)) == len(source.documents) > 50


def test_a_missing_language_reference_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(standard_library.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"no language reference .*pydoc_data.topics.*use python:docstrings"):
        read_standard_library()


def test_a_library_without_source_files_is_said_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="no Python source files in .*name a file, folder or URL"):
        read_standard_library(("source",), tmp_path)


def test_an_unknown_part_names_the_parts():
    with pytest.raises(ValueError, match="unknown part 'doc' .* reference, docstrings, source"):
        read_standard_library(("doc",))


def test_no_topic_of_the_reference_is_a_section_of_another_and_none_that_is_held_out_is_trained_on():
    """The chapter on compound statements holds the topics "if", "while" and so on, which are topics of their own too."""
    (reference,) = read_standard_library(("reference",))
    assert not any(one is not other and one.strip() in other for one in reference.documents for other in reference.documents)
    training, validation = split_sources({"reference": reference.documents}, 0.1)
    assert shared_text(training, validation) < 0.02

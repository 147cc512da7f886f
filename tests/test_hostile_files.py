"""Whatever is done to a file, its reader reads it or says what is wrong: a sample of tests/hostile_files.py."""

import hostile_files
import pytest


@pytest.mark.parametrize("name", hostile_files.CASES)
def test_a_damaged_file_is_read_or_refused_with_a_value_error(name, tmp_path):
    assert list(hostile_files.failures(name, 60, tmp_path)) == []

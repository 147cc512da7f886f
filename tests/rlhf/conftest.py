"""Lets the tests here import `tiny_rl`, small policies and trainers that lie beside them, and `tiny_run` of tests/training."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "training")]

"""A whole network as one kernel: its steps written down once, then run without going back to Python.

`row_program.py` runs one token of many rows through all layers, as generation does. Its twin: `kernels/reference/row_program.py`.
"""

__all__ = []  # loaded name by name: see kernels/__init__.py

"""Attention's loops: a task for each tile of queries, and no T x S matrix is ever kept.

Read first the twin, `kernels/reference/attention.py`; then `forward.py` (what is called), `tiles.py` (a tile of scores),
`softmax_tiles.py` (the forward pass), `gradient.py` (the backward pass); `few_queries.py` is for generation, `operands.py` how
arrays travel.
"""

__all__ = []  # loaded name by name: see kernels/__init__.py

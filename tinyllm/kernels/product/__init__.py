"""Matrix products: C = A·B and what follows it in a layer, done while each block of C is still in the cache.

Read `register_tile.py` (the innermost step), `packing.py`, `matrix_product.py` (blocks of blocks), `epilogue.py` and `linear.py`
(a layer). `matrix_vector.py` and `quantized.py` are for few rows, as in generation; `peak.py` measures what the machine can do.
"""

__all__ = []  # loaded name by name: see kernels/__init__.py

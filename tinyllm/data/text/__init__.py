"""Text to learn from: read, cut, encoded, mixed, and drawn in windows.

Read in this order: `corpus` (where text comes from; `standard_library` and `download` are two of the places),
`documents` (what it is cut into), `shards` (token files), `mixture`, `windows` (batches).
"""

"""Tasks made by programs, so that every answer is known to be right or wrong.

`instructions` draws from all: `exact` (letters, digits, words), `reading`, `tool_calls`, `small_talk`; `contents` keeps
training and test apart. `news` is a world of small news to be summarised, `gold` says how good a summary truly is.
"""

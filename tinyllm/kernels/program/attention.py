"""Attend: one query a row, to all its keys so far, its own included, which is added to the cache first.

Keys are kept on their side, (D, S), so that the scores of a whole vector of keys come without adding up lanes. Each row has a
length of its own: there is no padding. With a window only the last keys are looked at.
"""

from tinyllm.kernels.attention.few_queries import softmax_row
from tinyllm.kernels.attention.tiles import LOG2_E, multiply_wide
from tinyllm.kernels.jit import inlined
from tinyllm.kernels.pointers import Matrix, load, move, pointer, store
from tinyllm.kernels.program.instructions import Attend
from tinyllm.kernels.program.packing import CACHE_LINE, Packer, rows_at


def pack(packer: Packer, attend: Attend) -> tuple[list[int], float]:
    """query, key, value and out, each with its row stride; keys; values; H; G; D; room; window or 0."""
    (n_slots, n_groups, width, room), n_queries = attend.keys.shape, attend.query.shape[1]
    n_heads = n_queries // width
    queries, ours = (n_heads // n_groups * n_groups * width,), (n_groups * width,)
    packer.check("attend", (attend.query, queries), (attend.out, queries), (attend.key, ours), (attend.value, ours))
    packer.check("attend", (attend.keys, attend.keys.shape), (attend.values, (n_slots, n_groups, room, width)))
    packer.room = max(packer.room, n_heads // n_groups * (room + width) + CACHE_LINE)
    places = packer.values(attend.query, attend.key, attend.value, attend.out)
    places += [packer.address(attend.keys), packer.address(attend.values)]
    return [*places, n_heads, n_groups, width, room, attend.window or 0], attend.scale * LOG2_E


@inlined
def attend_rows(code, places, scale, work, first, count):
    """The rows from `first` on. places: the slot of each row in the cache, and the number of its keys before."""
    keys_address, values_address = load(code, 8), load(code, 9)
    n_heads, n_groups, width, room, window = load(code, 10), load(code, 11), load(code, 12), load(code, 13), load(code, 14)
    group = n_heads // n_groups
    scaled = move(work, group * room)
    for row in range(first, first + count):
        slot, length = load(places[0], row), load(places[1], row)
        begin = max(0, length + 1 - window) if window else 0
        n = length + 1 - begin
        query, out = rows_at(code, 0, row, work).base, rows_at(code, 6, row, work).base
        for g in range(n_groups):
            shift = (slot * n_groups + g) * width * room
            keys, values = move(pointer(keys_address, work), shift), move(pointer(values_address, work), shift)
            key, value = rows_at(code, 2, row, work).base, rows_at(code, 4, row, work).base
            for d in range(width):
                store(keys, d * room + length, load(key, g * width + d))
                store(values, length * width + d, load(value, g * width + d))
            for d in range(group * width):
                store(scaled, d, scale * load(query, g * group * width + d))
            queries, scores = Matrix(scaled, width, 1), Matrix(work, room, 1)
            multiply_wide(queries, Matrix(move(keys, begin), room, 1), scores, (group, n, width), 0)
            for h in range(group):
                softmax_row(move(work, h * room), n)
            mixed = Matrix(move(out, g * group * width), width, 1)
            multiply_wide(scores, Matrix(move(values, begin * width), width, 1), mixed, (group, width, n), 0)

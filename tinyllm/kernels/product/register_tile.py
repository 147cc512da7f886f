"""The innermost step of every matrix product: a small tile of C kept in the CPU's vector registers, written as LLVM code.

For one step k along the depth, a column of A (12 numbers) times a row of B (two vectors of 16 numbers with AVX-512) updates
12 x 32 sums, 24 fused multiply-adds for 14 loads; the sums never leave the registers until the depth is done:

              k →           row k of B   ┌──── 16 ────┬──── 16 ────┐
        ┌ . a . . ┐                      │ b b b b b b│b b b b b b │   C[i, j] += A[i, k] · B[k, j]
   12   │ . a . . │     ×                └────────────┴────────────┘
   rows │ . a . . │                      12 x 2 vector registers of sums
        └ . a . . ┘
Plain Python loops cannot say "these 24 registers": Numba would have to prove that C overlaps neither A nor B, and falls back
to one number at a time. So the tile is emitted as LLVM instructions through `numba.extending.intrinsic`, at the width of
this CPU. The idea is the micro-kernel of Goto and van de Geijn (2008), section 4. Unlike theirs, ours takes any strides.
"""

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from tinyllm.kernels.jit import intrinsic, register_symbol
from tinyllm.kernels.pointers import BYTE, INT32, INT64, constant, lanes_of, vector_registers

ROW_COUNTS = {12: (12, 8, 4, 2, 1), 6: (6, 4, 2, 1)}  # tile heights that exist; others are made by stacking these


# ---- the tile ----


class TileWriter:
    """Writes the LLVM function of one tile shape: `rows` x (`vectors` registers), the last columns masked or not."""

    def __init__(self, module: ir.Module, dtype: Any, *, rows: int, vectors: int, masked: bool) -> None:
        self.rows, self.vectors, self.masked = rows, vectors, masked
        self.lanes = lanes_of(dtype)
        self.number = ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
        self.align = dtype.bitwidth // 8
        self.vector = ir.VectorType(self.number, self.lanes)
        self.suffix = f"v{self.lanes}f{dtype.bitwidth}"
        self.module = module
        name = f"tinyllm_tile_{self.suffix}_{rows}x{vectors}{'_masked' if masked else ''}"
        # a, bytes per row of A, bytes per step of A, b, bytes per step of B, c, bytes per row of C, depth, columns, accumulate
        number_pointer = self.number.as_pointer()
        parameters = [number_pointer, INT64, INT64, number_pointer, INT64, number_pointer, INT64, INT64, INT64, INT64]
        kind = ir.FunctionType(ir.VoidType(), parameters)
        known = module.globals.get(name)
        self.function = known or ir.Function(module, kind, name)
        if known is None:
            self.function.linkage = "linkonce_odr"
            self.function.attributes.add("noinline")
            self.function.attributes.add("nounwind")
            self.write_body()

    def intrinsic(self, name: str, result: Any, parameters: list[Any]) -> ir.Function:
        """Return LLVM's own function `name`, declared in this module once."""
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, parameters), name)

    def step(self, base: Any, n_bytes: Any, kind: Any) -> Any:
        """Return the pointer `n_bytes` after `base`, as a pointer to `kind`."""
        build = self.build
        return build.bitcast(build.gep(build.bitcast(base, BYTE.as_pointer()), [n_bytes]), kind.as_pointer())

    def spread(self, value: Any) -> Any:
        """Return a vector with `value` in every lane."""
        kind = ir.VectorType(value.type, self.lanes)
        single = self.build.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.build.shuffle_vector(single, ir.Constant(kind, ir.Undefined), zeros)

    def mask_of(self, j: int) -> Any:
        """Return which lanes of vector j lie inside the matrix; None if all do."""
        if not self.masked or j < self.vectors - 1:
            return None
        kind = ir.VectorType(INT64, self.lanes)
        places = ir.Constant(kind, [j * self.lanes + lane for lane in range(self.lanes)])
        return self.build.icmp_signed("<", places, self.spread(self.columns))

    def load_vector(self, base: Any, j: int) -> Any:
        """Load vector j of the row at `base`, zeros beyond the last column."""
        where = self.step(base, constant(j * self.lanes * self.align), self.vector)
        if self.masks[j] is None:
            value = self.build.load(where)
            value.align = self.align
            return value
        flags = ir.VectorType(ir.IntType(1), self.lanes)
        parameters = [self.vector.as_pointer(), INT32, flags, self.vector]
        masked_load = self.intrinsic(f"llvm.masked.load.{self.suffix}.p0", self.vector, parameters)
        return self.build.call(masked_load, [where, ir.Constant(INT32, self.align), self.masks[j], self.zero])

    def store_vector(self, value: Any, base: Any, j: int) -> None:
        """Store vector j of the row at `base`, leaving alone what lies beyond the last column."""
        where = self.step(base, constant(j * self.lanes * self.align), self.vector)
        if self.masks[j] is None:
            self.build.store(value, where).align = self.align
            return
        flags = ir.VectorType(ir.IntType(1), self.lanes)
        parameters = [self.vector, self.vector.as_pointer(), INT32, flags]
        masked_store = self.intrinsic(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), parameters)
        self.build.call(masked_store, [value, where, ir.Constant(INT32, self.align), self.masks[j]])

    def write_body(self) -> None:
        """entry → (depth loop) → (add C if accumulating) → store."""
        blocks = [self.function.append_basic_block(name) for name in ("entry", "depth", "finish", "add", "write")]
        entry, loop, finish, add, write = blocks
        self.build = build = ir.IRBuilder(entry)
        *_, self.c, self.c_row, depth, self.columns, accumulate = self.function.args
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self.masks = [self.mask_of(j) for j in range(self.vectors)]
        self.fetch_ahead()
        build.cbranch(build.icmp_signed(">", depth, constant(0)), loop, finish)
        sums = self.write_loop(entry, loop, finish, depth)
        build.position_at_end(finish)
        sums = [self.phi_of([(self.zero, entry), (value, loop)]) for value in sums]
        build.cbranch(build.icmp_signed("!=", accumulate, constant(0)), add, write)
        build.position_at_end(add)
        places = [(i, j) for i in range(self.rows) for j in range(self.vectors)]
        c_rows = [self.step(self.c, build.mul(self.c_row, constant(i)), self.number) for i in range(self.rows)]
        added = [build.fadd(self.load_vector(c_rows[i], j), value) for (i, j), value in zip(places, sums, strict=True)]
        build.branch(write)
        build.position_at_end(write)
        results = [self.phi_of([(old, finish), (new, add)]) for old, new in zip(sums, added, strict=True)]
        c_rows = [self.step(self.c, build.mul(self.c_row, constant(i)), self.number) for i in range(self.rows)]
        for (i, j), value in zip(places, results, strict=True):
            self.store_vector(value, c_rows[i], j)
        build.ret_void()

    def fetch_ahead(self) -> None:
        """Ask for the tile's part of C now, since it is written when the depth is done: by then it will have come."""
        build, pointer = self.build, BYTE.as_pointer()
        prefetch = self.intrinsic("llvm.prefetch.p0", ir.VoidType(), [pointer, INT32, INT32, INT32])
        to_write, keep_near, data = (ir.Constant(INT32, value) for value in (1, 3, 1))
        for i in range(self.rows):
            row = self.step(self.c, build.mul(self.c_row, constant(i)), BYTE)
            for j in range(self.vectors):
                build.call(prefetch, [build.gep(row, [constant(j * self.lanes * self.align)]), to_write, keep_near, data])

    def phi_of(self, incoming: list[tuple[Any, Any]]) -> Any:
        """Return the value that depends on the block we came from."""
        phi = self.build.phi(incoming[0][0].type)
        for value, block in incoming:
            phi.add_incoming(value, block)
        return phi

    def write_loop(self, entry: Any, loop: Any, finish: Any, depth: Any) -> list[Any]:
        """Write the loop over the depth; returns the rows x vectors sums.

        A pointer for every third row of A reaches the two rows below it by adding the row stride once and twice: four
        pointers instead of twelve, which is as many as the CPU has registers for.
        """
        build = self.build
        a, a_row, a_step, b, b_step = self.function.args[:5]
        build.position_before(entry.terminator)
        twice = build.mul(a_row, constant(2))
        group_starts = [self.step(a, build.mul(a_row, constant(i)), self.number) for i in range(0, self.rows, 3)]
        build.position_at_end(loop)
        k = self.phi_of([(constant(0), entry)])
        groups = [self.phi_of([(first, entry)]) for first in group_starts]
        b_now = self.phi_of([(b, entry)])
        sums = [self.phi_of([(self.zero, entry)]) for _ in range(self.rows * self.vectors)]
        fused = self.intrinsic(f"llvm.fmuladd.{self.suffix}", self.vector, [self.vector] * 3)
        row_of_b = [self.load_vector(b_now, j) for j in range(self.vectors)]
        updated = []
        for i in range(self.rows):
            offset = (constant(0), a_row, twice)[i % 3]
            value = self.spread(build.load(self.step(groups[i // 3], offset, self.number)))
            updated += [build.call(fused, [value, row_of_b[j], sums[i * self.vectors + j]]) for j in range(self.vectors)]
        following = build.add(k, constant(1))
        for phi, value in [(k, following), (b_now, self.step(b_now, b_step, self.number)), *zip(sums, updated, strict=True)]:
            phi.add_incoming(value, loop)
        for phi in groups:
            phi.add_incoming(self.step(phi, a_step, self.number), loop)
        build.cbranch(build.icmp_signed("<", following, depth), loop, finish)
        return updated


# ---- tiles stacked to any height ----


def write_panel_function(module: ir.Module, dtype: Any) -> ir.Function:
    """Return the LLVM function that multiplies any number of rows by up to two vectors of columns, writing it if new."""
    name = f"tinyllm_panel_f{dtype.bitwidth}"
    if name in module.globals:
        return module.globals[name]
    number_pointer = ir.FloatType().as_pointer() if dtype.bitwidth == 32 else ir.DoubleType().as_pointer()
    kinds = [number_pointer, INT64, INT64, number_pointer, INT64, number_pointer, *[INT64] * 5]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    build = ir.IRBuilder(function.append_basic_block("entry"))
    a, a_row, a_step, b, b_step, c, c_row, depth, rows, columns, accumulate = function.args
    a_bytes, b_bytes, c_bytes = (build.mul(stride, constant(dtype.bitwidth // 8)) for stride in (a_step, b_step, c_row))
    a_row_bytes = build.mul(a_row, constant(dtype.bitwidth // 8))
    done = constant(0)
    for height in ROW_COUNTS[vector_registers()[1]]:
        count = build.sdiv(build.sub(rows, done), constant(height))
        with cgutils.for_range(build, count) as repeat:
            row = build.add(done, build.mul(repeat.index, constant(height)))
            a_now, c_now = build.gep(a, [build.mul(row, a_row)]), build.gep(c, [build.mul(row, c_row)])
            arguments = [a_now, a_row_bytes, a_bytes, b, b_bytes, c_now, c_bytes, depth, columns, accumulate]
            call_tile(build, dtype, height, arguments)
        done = build.add(done, build.mul(count, constant(height)))
    build.ret_void()
    return function


def call_tile(build: Any, dtype: Any, height: int, arguments: list[Any]) -> None:
    """Call the tile of this height that fits the number of columns: two whole vectors, two with a mask, one with a mask."""

    def call(vectors: int, masked: bool) -> None:
        tile = TileWriter(build.module, dtype, rows=height, vectors=vectors, masked=masked)
        build.call(tile.function, arguments)

    columns, width = arguments[-2], lanes_of(dtype)
    with build.if_else(build.icmp_signed("==", columns, constant(2 * width))) as (whole, part):
        with whole:
            call(2, False)
        with part, build.if_else(build.icmp_signed(">", columns, constant(width))) as (wide, narrow):
            with wide:
                call(2, True)
            with narrow:
                call(1, True)


@intrinsic
def panel_code(typing_context, a, a_row, a_step, b, b_step, c, c_row, depth, rows, columns, accumulate):
    """The machine code behind `multiply_panel`, to be compiled once for each dtype."""

    def codegen(context, builder, signature, args):
        builder.call(write_panel_function(builder.module, signature.args[0].dtype), args)
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, n, a, n, a, n, n, n, n, n), codegen


def panel(a, a_row, a_step, b, b_step, c, c_row, depth, rows, columns, accumulate):
    """What is compiled under the symbol tinyllm_panel_f32 (or f64)."""
    panel_code(a, a_row, a_step, b, b_step, c, c_row, depth, rows, columns, accumulate)


def make_symbol(name: str, function: Any, arguments: str, dtype: str) -> None:
    """Compile `function` for "float32" or "float64", or load it from the disk, as the symbol `name`_f32 or _f64.

    `arguments` has a letter each: s for a number of that dtype, p for a pointer to such, n for an integer, j for a pointer to
    integers, m for one to the bytes of a mask.
    """
    number = getattr(types, dtype)
    kinds = {"s": number, "n": types.intp, "p": types.CPointer(number)}
    kinds |= {"j": types.CPointer(types.int64), "m": types.CPointer(types.uint8)}
    register_symbol(f"{name}_f{number.bitwidth}", function, types.void(*[kinds[letter] for letter in arguments]))


def call_symbol(builder: Any, name: str, dtype: Any, args: list[Any]) -> None:
    """Write a call of the symbol `name`_f32 or _f64. A function of its own is compiled once, not inside every user."""
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in args])
    function = cgutils.get_or_insert_function(builder.module, kind, f"{name}_f{dtype.bitwidth}")
    builder.call(function, args)


@cache
def prepare(dtype: str) -> None:
    """Make the tile for "float32" or "float64" known to all kernels; needed before the first call of one that uses it."""
    make_symbol("tinyllm_panel", panel, "pnnpnpnnnnn", dtype)


@intrinsic
def multiply_panel(typing_context, a, b, c, size, accumulate):
    """C[i, j] = (C[i, j] if accumulate) + sum over k of A[i, k] · B[k, j], for size = (rows, columns, depth).

    a, b, c: of type Matrix; b and c with a column stride of 1, which is not looked at; columns <= 2 * lanes. No memory outside
    of the three is touched.
    """
    numbers = a[0].dtype

    def codegen(context, builder, signature, args):
        (a_base, a_row, a_step), (b_base, b_step, _), (c_base, c_row, _), (rows, columns, depth) = (
            cgutils.unpack_tuple(builder, value, 3) for value in args[:4]
        )
        flat = [a_base, a_row, a_step, b_base, b_step, c_base, c_row, depth, rows, columns, args[4]]
        call_symbol(builder, "tinyllm_panel", numbers, flat)
        return context.get_dummy_value()

    return types.void(a, a, a, types.UniTuple(types.intp, 3), types.intp), codegen

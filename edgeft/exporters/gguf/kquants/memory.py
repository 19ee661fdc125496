"""Vectors from memory and into it: loads of 32 and 16 bits, stores, a square of 16 by 16 turned. In the kernels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # noqa: TID253
from numba.core import cgutils, types  # noqa: TID253
from numba.core.typing.templates import signature  # noqa: TID253
from numba.extending import intrinsic  # noqa: TID253

from edgeft.exporters.gguf.kquants.lanes import FLOATS, INTS, WIDTH, Emit, f32, i32


def _at(context: Any, builder: ir.IRBuilder, array_type: Any, array: Any, index: ir.Value, vector: ir.Type) -> ir.Value:
    """A pointer to the vector that begins at element `index` of a contiguous array."""
    data = cgutils.create_struct_proxy(array_type)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def fetch(typingctx: Any, vector: Any, array: Any, index: Any, gap: Any) -> Any:
    """16 floats from `index` on; of a pair or quad each 16 more `gap` further. `vector` says which."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        place = context.cast(builder, args[2], sig.args[2], types.intp)
        step = context.cast(builder, args[3], sig.args[3], types.intp)
        parts = []
        for _ in range(args[0].type.count // WIDTH):
            parts.append(builder.load(_at(context, builder, sig.args[1], args[1], place, FLOATS), align=4))
            place = builder.add(place, step)
        while len(parts) > 1:
            parts = [_joined(builder, low, high) for low, high in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    return signature(vector, vector, array, index, gap), codegen


def _joined(builder: ir.IRBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    count = 2 * low.type.count
    return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(count))))


def _loader(name: str, element: ir.Type, widen: Emit) -> Any:
    """A function (array, index) -> f32 that reads 16 elements from anywhere and widens them."""

    def load_(typingctx: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            vector = ir.VectorType(element, WIDTH)
            index = context.cast(builder, args[1], sig.args[1], types.intp)
            pointer = _at(context, builder, sig.args[0], args[0], index, vector)
            return widen(builder, builder.load(pointer, align=element.width // 8 if element != ir.FloatType() else 4))

        return signature(f32, array, index), codegen

    load_.__name__ = name
    return intrinsic(load_)


def _same(builder: ir.IRBuilder, found: ir.Value) -> ir.Value:
    return found


def _from_bfloat16(builder: ir.IRBuilder, found: ir.Value) -> ir.Value:
    """bfloat16 is the upper half of float32."""
    return builder.bitcast(builder.shl(builder.zext(found, INTS), _int(16)), FLOATS)


def _from_float16(builder: ir.IRBuilder, found: ir.Value) -> ir.Value:
    """Exponent and mantissa moved into place are the value times 2^-112 (denormals too); inf and NaN by hand."""
    wide = builder.zext(found, INTS)
    moved = builder.shl(builder.and_(wide, _int(0x7FFF)), _int(13))
    scaled = builder.fmul(builder.bitcast(moved, FLOATS), ir.Constant(FLOATS, [2.0**112] * WIDTH))
    endless = builder.icmp_unsigned(">=", builder.and_(wide, _int(0x7FFF)), _int(0x7C00))
    kept = builder.select(endless, builder.or_(moved, _int(0x7F800000)), builder.bitcast(scaled, INTS))
    sign = builder.shl(builder.and_(wide, _int(0x8000)), _int(16))
    return builder.bitcast(builder.or_(kept, sign), FLOATS)


def _int(value: int) -> ir.Constant:
    return ir.Constant(INTS, [value] * WIDTH)


load = _loader("load", ir.FloatType(), _same)
load_bfloat16 = _loader("load_bfloat16", ir.IntType(16), _from_bfloat16)
load_float16 = _loader("load_float16", ir.IntType(16), _from_float16)


@intrinsic  # type: ignore[untyped-decorator]
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write 16 floats, or all of a pair or quad, into a float32 array, from `index` on."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        builder.store(args[2], _at(context, builder, sig.args[0], args[0], index, args[2].type), align=4)
        return context.get_dummy_value()

    return signature(types.none, array, index, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def store_bytes(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write the low bytes of 16 integers into a uint8 array, from `index` on."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        narrow = ir.VectorType(ir.IntType(8), WIDTH)
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        pointer = _at(context, builder, sig.args[0], args[0], index, narrow)
        builder.store(builder.trunc(args[2], narrow), pointer, align=1)
        return context.get_dummy_value()

    return signature(types.none, array, index, i32), codegen


@intrinsic  # type: ignore[untyped-decorator]
def transpose(typingctx: Any, rows: Any, starts: Any, index: Any, columns: Any, place: Any) -> Any:
    """columns[place + 16 e + k] = rows[starts[k] + index + e] for 16 lanes k and 16 elements e: a square, turned."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        row_type, start_type, _, column_type, _ = sig.args
        begins = cgutils.create_struct_proxy(start_type)(context, builder, value=args[1]).data
        offset = context.cast(builder, args[2], sig.args[2], types.intp)
        places = []
        for lane in range(WIDTH):
            start = builder.load(builder.gep(begins, [ir.Constant(ir.IntType(64), lane)]))
            places.append(builder.add(start, offset))
        square = [builder.load(_at(context, builder, row_type, args[0], where, FLOATS), align=4) for where in places]
        _store_turned(context, builder, square, column_type, args[3], sig.args[4], args[4])
        return context.get_dummy_value()

    return signature(types.none, rows, starts, index, columns, place), codegen


@intrinsic  # type: ignore[untyped-decorator]
def turn(typingctx: Any, array: Any, source: Any, target: Any) -> Any:
    """array[target + 16 e + k] = array[source + 16 k + e]: a square of 16 vectors."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        start = context.cast(builder, args[1], sig.args[1], types.intp)
        square = []
        for lane in range(WIDTH):
            where = builder.add(start, ir.Constant(ir.IntType(64), WIDTH * lane))
            square.append(builder.load(_at(context, builder, sig.args[0], args[0], where, FLOATS), align=4))
        _store_turned(context, builder, square, sig.args[0], args[0], sig.args[2], args[2])
        return context.get_dummy_value()

    return signature(types.none, array, source, target), codegen


def _store_turned(
    context: Any, builder: ir.IRBuilder, square: list[ir.Value], kind: Any, array: Any, index_type: Any, index: Any
) -> None:
    """Write a square's columns as rows. Four rounds of interleaving row i with row i + 8 bring every element to its
    place."""
    for _round in range(4):
        square = [
            builder.shuffle_vector(square[row], square[row + 8], _interleaved(first))
            for row in range(8)
            for first in (0, 8)
        ]
    place = context.cast(builder, index, index_type, types.intp)
    for element, vector in enumerate(square):
        where = builder.add(place, ir.Constant(ir.IntType(64), WIDTH * element))
        builder.store(vector, _at(context, builder, kind, array, where, FLOATS), align=4)


def _interleaved(first: int) -> ir.Constant:
    order = [position for pair in range(first, first + 8) for position in (pair, WIDTH + pair)]
    return ir.Constant(INTS, order)

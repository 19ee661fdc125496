"""Vectors from numbers, and functions of vectors that are no operators: selection by a mask, sizes, bits, roots.

All of them are intrinsics that numba compiles into the kernels (`lanes` has the types and operators).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # noqa: TID253
from numba.core import cgutils, types  # noqa: TID253
from numba.core.typing.templates import signature  # noqa: TID253
from numba.extending import intrinsic  # noqa: TID253

from edgeft.exporters.gguf.kquants.lanes import ABREAST, FLOATS, INTS, WHOLE_BOUNDS, Emit, f32, i32, mask, pair, quad

ROUNDER = 12582912.0  # 1.5 * 2^23: a float32 this large has no bits after the point, so adding it rounds to an integer
_ROUNDER_BITS = ir.Constant(ir.IntType(32), 0x4B400000)


def _spread(builder: ir.IRBuilder, value: ir.Value, vector: ir.VectorType) -> ir.Value:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


@intrinsic  # type: ignore[untyped-decorator]
def floats(typingctx: Any, value: Any) -> Any:
    """A scalar, rounded to float32, in all lanes."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        number = context.cast(builder, args[0], sig.args[0], types.float32)
        return _spread(builder, number, FLOATS)

    return signature(f32, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def pairs(typingctx: Any, value: Any) -> Any:
    """A scalar, rounded to float32, in all lanes of a pair."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _spread(builder, context.cast(builder, args[0], sig.args[0], types.float32), pair.vector)

    return signature(pair, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def abreast(typingctx: Any, value: Any) -> Any:
    """A scalar, rounded to float32, in all lanes of `ABREAST` vectors."""
    kind = {2: pair, 4: quad}[ABREAST]

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _spread(builder, context.cast(builder, args[0], sig.args[0], types.float32), kind.vector)

    return signature(kind, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def like(typingctx: Any, vector: Any, value: Any) -> Any:
    """A scalar, rounded to float32, in all lanes of a vector or pair such as the given one."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        number = context.cast(builder, args[1], sig.args[1], types.float32)
        return _spread(builder, number, args[0].type)

    return signature(vector, vector, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def width_of(typingctx: Any, vector: Any) -> Any:
    """How many lanes: 16, 32 of a pair, 64 of a quad."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return ir.Constant(ir.IntType(64), args[0].type.count)

    return types.intp(vector), codegen


@intrinsic  # type: ignore[untyped-decorator]
def integers(typingctx: Any, value: Any) -> Any:
    """An integer in all lanes."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        number = context.cast(builder, args[0], sig.args[0], types.int32)
        return _spread(builder, number, INTS)

    return signature(i32, value), codegen


def _function(name: str, operands: tuple[Any, ...], result: Any, emit: Emit) -> Any:
    """A function of vectors that is a few instructions. numba tells intrinsics apart by name."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return emit(builder, *args)

    def one(typingctx: Any, a: Any) -> Any:
        return signature(result, *operands), codegen

    def three(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        return signature(result, *operands), codegen

    made = one if len(operands) == 1 else three
    made.__name__ = name
    return intrinsic(made)


def _call(name: str, result: ir.Type) -> Emit:
    def emit(builder: ir.IRBuilder, *args: ir.Value) -> ir.Value:
        kind = ir.FunctionType(result, [arg.type for arg in args])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return emit


select_int = _function("select_int", (mask, i32, i32), i32, lambda builder, c, a, b: builder.select(c, a, b))
bits = _function("bits", (f32,), i32, lambda builder, a: builder.bitcast(a, INTS))
square_root = _function("square_root", (f32,), f32, _call("llvm.sqrt.v16f32", FLOATS))


@intrinsic  # type: ignore[untyped-decorator]
def select(typingctx: Any, chosen: Any, yes: Any, no: Any) -> Any:
    """`yes` in the lanes of the mask, `no` in the others."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.select(*args)

    return signature(yes, chosen, yes, no), codegen


@intrinsic  # type: ignore[untyped-decorator]
def magnitude(typingctx: Any, value: Any) -> Any:
    """|value|."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = args[0].type
        return _call(f"llvm.fabs.v{kind.count}f32", kind)(builder, *args)

    return signature(value, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def mantissa(typingctx: Any, value: Any) -> Any:
    """The 23 bits after a float's leading one, minus 2^22, as a float."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = args[0].type
        whole = ir.VectorType(ir.IntType(32), kind.count)
        low = builder.and_(builder.bitcast(args[0], whole), ir.Constant(whole, [0x7FFFFF] * kind.count))
        return builder.sitofp(builder.sub(low, ir.Constant(whole, [0x400000] * kind.count)), kind)

    return signature(value, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def some(typingctx: Any, chosen: Any) -> Any:
    """Whether any lane of a mask is set."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _call(f"llvm.vector.reduce.or.v{args[0].type.count}i1", ir.IntType(1))(builder, *args)

    return signature(types.boolean, chosen), codegen


def _level(name: str, signs: str) -> Any:
    """A function (value, a bound for each sign) -> the nearest integer (ties to even) of |value| < 2^22 within the
    bounds, as a float.

    Adding 1.5 * 2^23 leaves the integer in the last bits. There it is held between the bounds, by instructions that the
    units for multiplication, busy with everything else, have no part in (or as a float, where such are missing).
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = args[0].type
        whole = ir.VectorType(ir.IntType(32), kind.count)
        rounder = ir.Constant(kind, [ROUNDER] * kind.count)
        found = builder.fadd(args[0], rounder)
        bounds = list(zip(signs, args[1:], sig.args[1:], strict=True))
        if not WHOLE_BOUNDS:
            found = builder.fsub(found, rounder)
            for sign, bound, bound_type in bounds:
                limit = _spread(builder, context.cast(builder, bound, bound_type, types.float32), kind)
                found = builder.select(builder.fcmp_ordered(sign, found, limit), found, limit)
            return found
        found = builder.bitcast(found, whole)
        for sign, bound, bound_type in bounds:
            number = builder.add(context.cast(builder, bound, bound_type, types.int32), _ROUNDER_BITS)
            limit = _spread(builder, number, whole)
            found = builder.select(builder.icmp_signed(sign, found, limit), found, limit)
        return builder.fsub(builder.bitcast(found, kind), rounder)

    def one(typingctx: Any, value: Any, high: Any) -> Any:
        return signature(value, value, high), codegen

    def two(typingctx: Any, value: Any, low: Any, high: Any) -> Any:
        return signature(value, value, low, high), codegen

    made = one if len(signs) == 1 else two
    made.__name__ = name
    return intrinsic(made)


level = _level("level", "><")  # (value, low, high)
level_below = _level("level_below", "<")  # (value, high)

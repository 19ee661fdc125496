"""Sixteen numbers in one register: the numba types `f32` (<16 x float>), `i32` (<16 x i32>) and `mask` (<16 x i1>).

`pair` is two of `f32` side by side, with a mask of its own: while one waits for a result the processor goes on with the
other. An operator on them is one LLVM instruction without fast-math flags, so every lane rounds as C does; LLVM splits
the vectors to what the processor has (one register of AVX-512, two of AVX2, four of SSE or NEON). Used by the kernels
only.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # noqa: TID253  (the whole package is imported when a kernel is wanted)
from numba.core import cgutils, types  # noqa: TID253
from numba.core.imputils import lower_builtin  # noqa: TID253
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature  # noqa: TID253
from numba.extending import intrinsic, models, register_model  # noqa: TID253

WIDTH = 16
# LLVM flags on every multiplication, addition and subtraction. Empty, always: with ("contract",) a processor that can
# fuse x * y + z rounds once where C rounds twice, and bytes differ (a test does that on purpose).
ROUNDING_FLAGS: tuple[str, ...] = ()


class _Floats(types.Type):
    def __init__(self, width: int) -> None:
        super().__init__(f"lanes_f32x{width}")


class _Pair(_Floats):
    pass


class _Integers(types.Type):
    def __init__(self) -> None:
        super().__init__("lanes_i32")


class _Mask(types.Type):
    def __init__(self, width: int) -> None:
        super().__init__(f"lanes_mask{width}")


class _PairMask(_Mask):
    pass


f32, pair = _Floats(WIDTH), _Pair(2 * WIDTH)
i32, mask, pair_mask = _Integers(), _Mask(WIDTH), _PairMask(2 * WIDTH)
_FLOATS, _PAIR = (ir.VectorType(ir.FloatType(), width) for width in (WIDTH, 2 * WIDTH))
_BITS, _PAIR_BITS = (ir.VectorType(ir.IntType(1), width) for width in (WIDTH, 2 * WIDTH))
_INTS = ir.VectorType(ir.IntType(32), WIDTH)


def _model(kind: type[types.Type], vector: ir.Type) -> None:
    @register_model(kind)
    class Model(models.PrimitiveModel):  # type: ignore[misc]
        def __init__(self, manager: Any, fe_type: Any) -> None:
            super().__init__(manager, fe_type, vector)


_model(_Floats, _FLOATS)
_model(_Pair, _PAIR)
_model(_Integers, _INTS)
_model(_Mask, _BITS)
_model(_PairMask, _PAIR_BITS)

# --- operators ------------------------------------------------------------------------------------------------------

Emit = Callable[..., ir.Value]


def _operator(functions: tuple[Any, ...], operands: tuple[Any, ...], result: Any, emit: Emit) -> None:
    for function in functions:

        @infer_global(function)
        class Template(ConcreteTemplate):  # type: ignore[misc]
            cases = (signature(result, *operands),)

        @lower_builtin(function, *operands)  # type: ignore[untyped-decorator]
        def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            return emit(builder, *args)


def _flagged(name: str) -> Emit:
    return lambda builder, a, b: getattr(builder, name)(a, b, flags=ROUNDING_FLAGS)


for _kind, _test in ((f32, mask), (pair, pair_mask)):
    _operator((operator.add, operator.iadd), (_kind, _kind), _kind, _flagged("fadd"))
    _operator((operator.sub, operator.isub), (_kind, _kind), _kind, _flagged("fsub"))
    _operator((operator.mul, operator.imul), (_kind, _kind), _kind, _flagged("fmul"))
    _operator((operator.truediv, operator.itruediv), (_kind, _kind), _kind, lambda builder, a, b: builder.fdiv(a, b))
    _operator((operator.neg,), (_kind,), _kind, lambda builder, a: builder.fneg(a))
    for _function, _sign in (
        (operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="), (operator.eq, "=="),
    ):  # fmt: skip
        # ordered comparisons: false where a lane is not a number
        _operator(
            (_function,), (_kind, _kind), _test, lambda builder, a, b, sign=_sign: builder.fcmp_ordered(sign, a, b)
        )
    _operator((operator.ne,), (_kind, _kind), _test, lambda builder, a, b: builder.fcmp_unordered("!=", a, b))
    _operator((operator.invert,), (_test,), _test, lambda builder, a: builder.not_(a))
for _function, _sign in ((operator.lt, "<"), (operator.gt, ">")):
    _operator((_function,), (i32, i32), mask, lambda builder, a, b, sign=_sign: builder.icmp_signed(sign, a, b))
_operator((operator.add, operator.iadd), (i32, i32), i32, lambda builder, a, b: builder.add(a, b))
_operator((operator.sub, operator.isub), (i32, i32), i32, lambda builder, a, b: builder.sub(a, b))
_operator((operator.lshift,), (i32, i32), i32, lambda builder, a, b: builder.shl(a, b))
_operator((operator.rshift,), (i32, i32), i32, lambda builder, a, b: builder.lshr(a, b))
for _kind in (i32, mask, pair_mask):
    _operator((operator.and_, operator.iand), (_kind, _kind), _kind, lambda builder, a, b: builder.and_(a, b))
    _operator((operator.or_, operator.ior), (_kind, _kind), _kind, lambda builder, a, b: builder.or_(a, b))

# --- constants, conversions, memory ---------------------------------------------------------------------------------


def _spread(builder: ir.IRBuilder, value: ir.Value, vector: ir.VectorType) -> ir.Value:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


@intrinsic  # type: ignore[untyped-decorator]
def floats(typingctx: Any, value: Any) -> Any:
    """A scalar, rounded to float32, in all lanes."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        number = context.cast(builder, args[0], sig.args[0], types.float32)
        return _spread(builder, number, _FLOATS)

    return signature(f32, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def pairs(typingctx: Any, value: Any) -> Any:
    """A scalar, rounded to float32, in all lanes of a pair."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _spread(builder, context.cast(builder, args[0], sig.args[0], types.float32), _PAIR)

    return signature(pair, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def like(typingctx: Any, vector: Any, value: Any) -> Any:
    """A scalar, rounded to float32, in all lanes of a vector or pair such as the given one."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        number = context.cast(builder, args[1], sig.args[1], types.float32)
        return _spread(builder, number, args[0].type)

    return signature(vector, vector, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def width_of(typingctx: Any, vector: Any) -> Any:
    """How many lanes: 16, or 32 of a pair."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return ir.Constant(ir.IntType(64), args[0].type.count)

    return types.intp(vector), codegen


@intrinsic  # type: ignore[untyped-decorator]
def fetch(typingctx: Any, vector: Any, array: Any, index: Any, gap: Any) -> Any:
    """16 floats from `index` on; for a pair the other 16 from `index + gap` on. `vector` says which."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        first = context.cast(builder, args[2], sig.args[2], types.intp)
        low = builder.load(_at(context, builder, sig.args[1], args[1], first, _FLOATS), align=4)
        if args[0].type.count == WIDTH:
            return low
        second = builder.add(first, context.cast(builder, args[3], sig.args[3], types.intp))
        high = builder.load(_at(context, builder, sig.args[1], args[1], second, _FLOATS), align=4)
        order = ir.Constant(ir.VectorType(ir.IntType(32), 2 * WIDTH), list(range(2 * WIDTH)))
        return builder.shuffle_vector(low, high, order)

    return signature(vector, vector, array, index, gap), codegen


@intrinsic  # type: ignore[untyped-decorator]
def integers(typingctx: Any, value: Any) -> Any:
    """An integer in all lanes."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        number = context.cast(builder, args[0], sig.args[0], types.int32)
        return _spread(builder, number, _INTS)

    return signature(i32, value), codegen


def _at(context: Any, builder: ir.IRBuilder, array_type: Any, array: Any, index: ir.Value, vector: ir.Type) -> ir.Value:
    """A pointer to the vector that begins at element `index` of a contiguous array."""
    data = cgutils.create_struct_proxy(array_type)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


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
    return builder.bitcast(builder.shl(builder.zext(found, _INTS), _int(16)), _FLOATS)


def _from_float16(builder: ir.IRBuilder, found: ir.Value) -> ir.Value:
    """Exponent and mantissa moved into place are the value times 2^-112 (denormals too); inf and NaN by hand."""
    wide = builder.zext(found, _INTS)
    moved = builder.shl(builder.and_(wide, _int(0x7FFF)), _int(13))
    scaled = builder.fmul(builder.bitcast(moved, _FLOATS), ir.Constant(_FLOATS, [2.0**112] * WIDTH))
    endless = builder.icmp_unsigned(">=", builder.and_(wide, _int(0x7FFF)), _int(0x7C00))
    kept = builder.select(endless, builder.or_(moved, _int(0x7F800000)), builder.bitcast(scaled, _INTS))
    sign = builder.shl(builder.and_(wide, _int(0x8000)), _int(16))
    return builder.bitcast(builder.or_(kept, sign), _FLOATS)


def _int(value: int) -> ir.Constant:
    return ir.Constant(_INTS, [value] * WIDTH)


load = _loader("load", ir.FloatType(), _same)
load_bfloat16 = _loader("load_bfloat16", ir.IntType(16), _from_bfloat16)
load_float16 = _loader("load_float16", ir.IntType(16), _from_float16)


@intrinsic  # type: ignore[untyped-decorator]
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write 16 floats, or the 32 of a pair, into a float32 array, from `index` on."""

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
bits = _function("bits", (f32,), i32, lambda builder, a: builder.bitcast(a, _INTS))
square_root = _function("square_root", (f32,), f32, _call("llvm.sqrt.v16f32", _FLOATS))


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


@intrinsic  # type: ignore[untyped-decorator]
def transpose(typingctx: Any, rows: Any, starts: Any, index: Any, columns: Any, place: Any) -> Any:
    """columns[place + 16 e + k] = rows[starts[k] + index + e] for 16 lanes k and 16 elements e: a square, turned.

    Four rounds of interleaving row i with row i + 8 bring every element to its place.
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        row_type, start_type, _, column_type, _ = sig.args
        begins = cgutils.create_struct_proxy(start_type)(context, builder, value=args[1]).data
        square = []
        for lane in range(WIDTH):
            start = builder.load(builder.gep(begins, [ir.Constant(ir.IntType(64), lane)]))
            where = builder.add(start, context.cast(builder, args[2], sig.args[2], types.intp))
            square.append(builder.load(_at(context, builder, row_type, args[0], where, _FLOATS), align=4))
        for _round in range(4):
            square = [
                builder.shuffle_vector(square[row], square[row + 8], _interleaved(first))
                for row in range(8)
                for first in (0, 8)
            ]
        place = context.cast(builder, args[4], sig.args[4], types.intp)
        for element, vector in enumerate(square):
            where = builder.add(place, ir.Constant(ir.IntType(64), WIDTH * element))
            builder.store(vector, _at(context, builder, column_type, args[3], where, _FLOATS), align=4)
        return context.get_dummy_value()

    return signature(types.none, rows, starts, index, columns, place), codegen


def _interleaved(first: int) -> ir.Constant:
    order = [position for pair in range(first, first + 8) for position in (pair, WIDTH + pair)]
    return ir.Constant(_INTS, order)

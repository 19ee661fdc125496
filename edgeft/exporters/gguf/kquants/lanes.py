"""Sixteen numbers in one register: the numba types `f32` (<16 x float>), `i32` (<16 x i32>) and `mask` (<16 x i1>).

`pair` and `quad` are two and four of `f32` side by side, with masks of their own: while one waits for a result the
processor goes on with another. An operator on them is one LLVM instruction without fast-math flags, so every lane
rounds as C does; LLVM splits the vectors to what the processor has (one register of AVX-512, two of AVX2, four of SSE
or NEON). Used by the kernels only.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # noqa: TID253  (the whole package is imported when a kernel is wanted)
from numba.core import types  # noqa: TID253
from numba.core.imputils import lower_builtin  # noqa: TID253
from numba.core.registry import cpu_target  # noqa: TID253
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature  # noqa: TID253
from numba.extending import models, register_model  # noqa: TID253

WIDTH = 16
# LLVM flags on every multiplication, addition and subtraction. Empty, always: with ("contract",) a processor that can
# fuse x * y + z rounds once where C rounds twice, and bytes differ (a test does that on purpose).
ROUNDING_FLAGS: tuple[str, ...] = ()


class _Lanes(types.Type):
    """A vector type of LLVM as a type of numba."""

    def __init__(self, name: str, element: ir.Type, width: int) -> None:
        super().__init__(f"lanes_{name}x{width}")
        self.vector = ir.VectorType(element, width)


@register_model(_Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: _Lanes) -> None:
        super().__init__(manager, fe_type, fe_type.vector)


f32, pair, quad = (_Lanes("f32", ir.FloatType(), WIDTH * count) for count in (1, 2, 4))
mask, _pair_mask, _quad_mask = (_Lanes("mask", ir.IntType(1), WIDTH * count) for count in (1, 2, 4))
i32 = _Lanes("i32", ir.IntType(32), WIDTH)
FLOATS, INTS = f32.vector, i32.vector

_TARGET = str(cpu_target.target_context.codegen().magic_tuple())
# How many sub-blocks a search works on side by side: as many as its sums have registers for.
ABREAST = 4 if "+avx512f" in _TARGET else 2
# Whether the larger and the smaller of two integers are instructions; the oldest x86 has them for floats only.
WHOLE_BOUNDS = "x86" not in _TARGET or "+sse4.1" in _TARGET

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


for _kind, _test in ((f32, mask), (pair, _pair_mask), (quad, _quad_mask)):
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
for _kind in (i32, mask, _pair_mask, _quad_mask):
    _operator((operator.and_, operator.iand), (_kind, _kind), _kind, lambda builder, a, b: builder.and_(a, b))
    _operator((operator.or_, operator.ior), (_kind, _kind), _kind, lambda builder, a, b: builder.or_(a, b))

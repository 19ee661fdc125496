"""The five searches for a scale that ggml knows, each for 16 sub-blocks at once (or 32): lane k works on sub-block k.

All lie in one float32 array `t` (see `room`). `one` is a vector of ones, or a pair: then the search works on two
sub-blocks at a time. Element i of the values is at xs + 16 i, of the second of a pair `gap` further; weights lie at `W`
and levels at `LEVELS`, those of the second beside those of the first. A search keeps the order of ggml's float32
operations in every lane, since another order would round otherwise; a choice becomes a selection by a mask. What the C
code keeps besides (the levels of the best step) is not kept: they are made anew from the final scale.
docs/kquants.md derives the formulas.
"""

from __future__ import annotations

from edgeft.exporters.gguf.kquants.arithmetic import BOUND, EPSILON, clamp, inner, nearest, nearest_any
from edgeft.exporters.gguf.kquants.memory import fetch, store
from edgeft.exporters.gguf.kquants.room import LEVELS, PRODUCTS, SUMS, W
from edgeft.exporters.gguf.kquants.values import floats, level, level_below, like, magnitude, select, some, width_of


@inner
def search_offset(one, t, xs, gap, n, steps, top, absolute):
    """x ~ scale * level - minimum, levels 0..top: returns (scale, minimum, 1 where a lane left the fast path's range).

    For each step the levels of one inverse scale, then scale and minimum by weighted least squares; the best of them by
    weighted squared error, or absolute error when `absolute`. `steps`: the numerators of the inverse scales; the first
    is `top` itself, whose plain scale is what the others have to beat.
    """
    width = width_of(one)
    zero = like(one, 0)
    low_x = high_x = fetch(one, t, xs, gap)
    sum_w = fetch(one, t, W, 16)
    sum_x = sum_w * low_x
    for i in range(1, n):
        value, weight = fetch(one, t, xs + 16 * i, gap), fetch(one, t, W + width * i, 16)
        low_x = select(value < low_x, value, low_x)
        high_x = select(value > high_x, value, high_x)
        sum_w = sum_w + weight
        sum_x = sum_x + weight * value
    low_x = select(low_x > zero, zero, low_x)
    span = high_x - low_x
    flat = high_x == low_x
    inverse = like(one, steps[0]) / span
    scale, minimum = one / inverse, low_x
    for i in range(n):
        store(t, LEVELS + width * i, level(inverse * (fetch(one, t, xs + 16 * i, gap) - minimum), 0, top))
    best = _offset_error(t, xs, gap, n, scale, minimum, absolute)
    for step in range(1, len(steps)):
        inverse = like(one, steps[step]) / (high_x - minimum)
        sum_l = sum_l2 = sum_xl = zero
        for i in range(n):
            value = fetch(one, t, xs + 16 * i, gap)
            found = level(inverse * (value - minimum), 0, top)
            store(t, LEVELS + width * i, found)
            weighted = fetch(one, t, W + width * i, 16) * found
            sum_l = sum_l + weighted
            sum_l2 = sum_l2 + weighted * found
            sum_xl = sum_xl + weighted * value
        determinant = sum_w * sum_l2 - sum_l * sum_l
        new_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
        new_minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
        positive = new_minimum > zero
        new_scale = select(positive, sum_xl / sum_l2, new_scale)
        new_minimum = select(positive, zero, new_minimum)
        error = _offset_error(t, xs, gap, n, new_scale, new_minimum, absolute)
        better = (determinant > zero) & (error < best)
        best = select(better, error, best)
        scale = select(better, new_scale, scale)
        minimum = select(better, new_minimum, minimum)
    odd = (~flat) & ~(span > one / like(one, BOUND))
    return select(flat, zero, scale), -minimum, select(odd, one, zero)


@inner
def _offset_error(t, xs, gap, n, scale, minimum, absolute):
    """The weighted error of scale * level + minimum."""
    width = width_of(scale)
    error = like(scale, 0)
    if absolute:
        for i in range(n):
            off = (scale * fetch(scale, t, LEVELS + width * i, 16) + minimum) - fetch(scale, t, xs + 16 * i, gap)
            error = error + fetch(scale, t, W + width * i, 16) * magnitude(off)
    else:
        for i in range(n):
            off = (scale * fetch(scale, t, LEVELS + width * i, 16) + minimum) - fetch(scale, t, xs + 16 * i, gap)
            error = error + fetch(scale, t, W + width * i, 16) * (off * off)
    return error


@inner
def largest(one, t, xs, gap, n):
    """The value of largest magnitude (the first of equals) and the magnitude."""
    most = size = like(one, 0)
    for i in range(n):
        value = fetch(one, t, xs + 16 * i, gap)
        larger = magnitude(value) > size
        size = select(larger, magnitude(value), size)
        most = select(larger, value, most)
    return most, size


@inner
def search_symmetric(one, t, xs, gap, n, steps, top):
    """x ~ scale * level, levels -top..top-1: returns (scale, the inverse scale whose levels led to it).

    For each step the levels of one inverse scale, then the scale by weighted least squares; the best of them by the
    share of the squares that it explains, sumlx^2 / suml2. `steps`: the numerators of the inverse scales.
    """
    width = width_of(one)
    zero = like(one, 0)
    most, size = largest(one, t, xs, gap, n)
    scale = best = chosen = zero
    for i in range(n):  # the room of the levels holds the products that all steps need
        store(t, LEVELS + width * i, fetch(one, t, W + width * i, 16) * fetch(one, t, xs + 16 * i, gap))
    for step in range(len(steps)):
        inverse = like(one, steps[step]) / most
        sum_lx, sum_l2 = _sums(t, xs, gap, n, inverse, abs(steps[step]), top)
        if step == 0:
            scale = select(sum_l2 == zero, zero, sum_lx / sum_l2)
            best = scale * sum_lx
            chosen = inverse
        else:
            better = (sum_l2 > zero) & (sum_lx * sum_lx > best * sum_l2)
            scale = select(better, sum_lx / sum_l2, scale)
            best = select(better, scale * sum_lx, best)
            chosen = select(better, inverse, chosen)
    return select(size < like(one, EPSILON), zero, scale), chosen


@inner
def _sums(t, xs, gap, n, inverse, reach, top):
    """Weighted sums of level x and level^2 for an inverse scale that makes no level larger than `reach` rounded: in
    most steps one bound or both have nothing to do."""
    width = width_of(inverse)
    sum_lx = sum_l2 = like(inverse, 0)
    if reach < top - 0.51:
        for i in range(n):
            found = nearest(inverse * fetch(inverse, t, xs + 16 * i, gap))
            sum_lx = sum_lx + fetch(inverse, t, LEVELS + width * i, 16) * found
            sum_l2 = sum_l2 + (fetch(inverse, t, W + width * i, 16) * found) * found
    elif reach < top + 0.49:
        for i in range(n):
            found = level_below(inverse * fetch(inverse, t, xs + 16 * i, gap), top - 1)
            sum_lx = sum_lx + fetch(inverse, t, LEVELS + width * i, 16) * found
            sum_l2 = sum_l2 + (fetch(inverse, t, W + width * i, 16) * found) * found
    else:
        for i in range(n):
            found = level(inverse * fetch(inverse, t, xs + 16 * i, gap), -top, top - 1)
            sum_lx = sum_lx + fetch(inverse, t, LEVELS + width * i, 16) * found
            sum_l2 = sum_l2 + (fetch(inverse, t, W + width * i, 16) * found) * found
    return sum_lx, sum_l2


@inner
def search_by_turns(one, t, xs, gap, n, top):
    """x ~ scale * level, levels -top..top-1, weights x^2: one level at a time is moved to where the others' scale wants
    it, as long as that explains more, in five rounds at most. Returns the scale."""
    width = width_of(one)
    zero = like(one, 0)
    most, size = largest(one, t, xs, gap, n)
    inverse = like(one, -top) / most
    sum_lx = sum_l2 = zero
    for i in range(n):
        value = fetch(one, t, xs + 16 * i, gap)
        found = level(inverse * value, -top, top - 1)
        store(t, LEVELS + width * i, found)
        weight = value * value
        store(t, W + width * i, weight)
        store(t, PRODUCTS + width * i, weight * value)
        sum_lx = sum_lx + (weight * value) * found
        sum_l2 = sum_l2 + (weight * found) * found
    sum_lx, sum_l2, _ = _turn(t, xs, gap, n, top, 0, width, sum_lx, sum_l2, False)
    store(t, SUMS, sum_lx)
    store(t, SUMS + width, sum_l2)
    single = floats(1)
    for part in range(0, width, 16):  # most levels stay from now on: the fewer sub-blocks, the more is left out
        part_lx, part_l2 = fetch(single, t, SUMS + part, 16), fetch(single, t, SUMS + width + part, 16)
        start = xs + gap * (part // 16)
        for _turn_left in range(4):
            part_lx, part_l2, changed = _turn(t, start, gap, n, top, part, width, part_lx, part_l2, True)
            if not changed:
                break
        store(t, SUMS + part, part_lx)
        store(t, SUMS + width + part, part_l2)
    sum_lx, sum_l2 = fetch(one, t, SUMS, 16), fetch(one, t, SUMS + width, 16)
    scale = select(sum_l2 > zero, sum_lx / sum_l2, zero)
    return select(size < like(one, EPSILON), zero, scale)


@inner
def _turn(t, xs, gap, n, top, part, width, sum_lx, sum_l2, look):
    """One round of `search_by_turns`, of the sub-blocks from lane `part` on: returns the sums, and whether any level
    moved. With `look` a value is left out where no lane's level can move."""
    zero, low, high = like(sum_lx, 0), like(sum_lx, -top), like(sum_lx, top - 1)
    changed = zero > zero
    for i in range(n):
        here = part + width * i
        value, found = fetch(zero, t, xs + 16 * i, gap), fetch(zero, t, LEVELS + here, 16)
        weight, product = fetch(zero, t, W + here, 16), fetch(zero, t, PRODUCTS + here, 16)
        rest_lx = sum_lx - product * found
        rest_l2 = sum_l2 - (weight * found) * found
        wanted = value * rest_l2
        if look and not some(_moves(wanted, rest_lx, found, low, high)):
            continue
        moved = clamp(nearest_any(wanted / rest_lx), low, high)
        with_lx = rest_lx + product * moved
        with_l2 = rest_l2 + (weight * moved) * moved
        better = (rest_lx > zero) & (moved != found) & (with_l2 > zero)
        better = better & ((with_lx * with_lx) * sum_l2 > (sum_lx * sum_lx) * with_l2)
        store(t, LEVELS + here, select(better, moved, found))
        sum_lx = select(better, with_lx, sum_lx)
        sum_l2 = select(better, with_l2, sum_l2)
        changed = changed | better
    return sum_lx, sum_l2, some(changed)


@inner
def _moves(wanted, rest_lx, level, low, high):
    """Where the level nearest to wanted / rest_lx may be another one than `level` and rest_lx is above 0, told without
    the division; in the lanes left out it is certain. (Quotients that `nearest_any` would wrap are let in.)"""
    far, near = like(low, 2.0**20), like(low, 0.499)
    off = wanted - level * rest_lx
    up = off < select(level == high, far, near) * rest_lx
    down = off > -(select(level == low, far, near) * rest_lx)
    return (rest_lx > like(low, 0)) & ~(up & down)


@inner
def search_positive(one, t, xs, gap, n, steps, top):
    """x ~ scale * level, x >= 0, levels 0..top, for the scales of sub-blocks: the best step by weighted squared error,
    then one level at a time. Returns (scale, 1 where a lane left the fast path's range)."""
    width = width_of(one)
    zero, high = like(one, 0), like(one, top)
    most = odd = zero
    for i in range(n):
        value = fetch(one, t, xs + 16 * i, gap)
        most = select(most > value, most, value)
        odd = select((value >= zero) & (value < like(one, BOUND)), odd, one)
    chosen = best = zero
    for step in range(len(steps)):
        inverse = like(one, steps[step]) / most
        scale, error = one / inverse, zero
        for i in range(n):
            value = fetch(one, t, xs + 16 * i, gap)
            level = nearest(inverse * value)
            level = select(level < high, level, high)
            off = value - scale * level
            error = error + (fetch(one, t, W + width * i, 16) * off) * off
        if step == 0:
            chosen, best = inverse, error
        else:
            better = error < best
            best = select(better, error, best)
            chosen = select(better, inverse, chosen)
    sum_lx = sum_l2 = zero
    for i in range(n):
        value, weight = fetch(one, t, xs + 16 * i, gap), fetch(one, t, W + width * i, 16)
        level = nearest(chosen * value)
        level = select(level < high, level, high)
        store(t, LEVELS + width * i, level)
        sum_lx = sum_lx + (weight * value) * level
        sum_l2 = sum_l2 + (weight * level) * level
    for _turn in range(5):
        changed = zero > zero
        for i in range(n):
            value, weight = fetch(one, t, xs + 16 * i, gap), fetch(one, t, W + width * i, 16)
            level = fetch(one, t, LEVELS + width * i, 16)
            rest_lx = sum_lx - (weight * value) * level
            rest_l2 = sum_l2 - (weight * level) * level
            moved = nearest_any((value * rest_l2) / rest_lx)
            moved = select(moved < high, moved, high)
            with_lx = rest_lx + (weight * value) * moved
            with_l2 = rest_l2 + (weight * moved) * moved
            better = (rest_lx > zero) & (rest_l2 > zero) & (moved != level)
            better = better & ((with_lx * with_lx) * sum_l2 > (sum_lx * sum_lx) * with_l2)
            odd = select(better & (moved < zero), one, odd)  # ggml's byte would wrap
            store(t, LEVELS + width * i, select(better, moved, level))
            sum_lx = select(better, with_lx, sum_lx)
            sum_l2 = select(better, with_l2, sum_l2)
            changed = changed | better
        if not some(changed):
            break
    nothing = most < like(one, EPSILON)
    for i in range(n):
        store(t, LEVELS + width * i, select(nothing, zero, fetch(one, t, LEVELS + width * i, 16)))
    scale = select(sum_l2 > zero, sum_lx / sum_l2, zero)
    return select(nothing, zero, scale), select(nothing, zero, odd)

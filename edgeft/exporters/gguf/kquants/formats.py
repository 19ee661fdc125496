"""The formats in numbers: what a block holds, and which scales the searches of each type try. Light enough for tables.

A search tries inverse scales numerator / span, where span is the range of the values (or the largest of them): the
numerator is the number of levels and a little more or less. Read by `run`, which hands the numbers to the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Steps:
    """Numerators `top`, then sign * (offset + delta * i + top) for i in first..last, rounded to float32 as C does.

    without  the i that is left out (0 where the plain `top` was tried before)
    """

    top: int
    offset: float
    delta: float
    first: int
    last: int
    without: int | None = None
    sign: int = 1

    def numerators(self) -> NDArray[np.float32]:
        import numpy as np

        single = np.float32
        turns = [i for i in range(self.first, self.last + 1) if i != self.without]
        tried = [single(single(self.offset) + single(self.delta) * single(i)) + single(self.top) for i in turns]
        return np.array([self.top, *tried], dtype=np.float32) * single(self.sign)


@dataclass(frozen=True)
class Format:
    """One ggml type. `plain`, `important`: steps of the search without and with an importance matrix, of a sub-block's
    scale and of the scales' scale. `weighted`: whether an importance matrix changes anything."""

    name: str
    size: int
    nbytes: int
    plain: tuple[Steps, ...]
    important: tuple[Steps, ...]
    weighted: bool = True


def _around(top: int, delta: float, reach: int, sign: int = 1) -> Steps:
    """`top` itself, then `reach` steps to either side."""
    return Steps(top, 0.0, delta, -reach, reach, without=0, sign=sign)


_FINE_15, _FINE_31, _FINE_3 = (Steps(top, -0.9, 0.05, 0, 36) for top in (15, 31, 3))
_VALUES = Steps(-127, 0.0, 1.0, -7, 7)

FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format("Q4_K", 256, 144, (Steps(15, -1.0, 0.1, 0, 20),), (_FINE_15, _around(63, 0.1, 4))),
        Format("Q5_K", 256, 176, (Steps(31, -0.5, 0.1, 0, 15),), (_FINE_31, _around(63, 0.1, 4))),
        Format("Q2_K", 256, 84, (Steps(3, -0.5, 0.1, 0, 15),), (_FINE_3, _around(15, 0.1, 4))),
        Format("Q6_K", 256, 210, (_around(32, 0.1, 9, -1),), (_around(32, 0.1, 9, -1),)),
        Format("Q3_K", 256, 110, (), (_around(4, 0.1, 9, -1), _around(32, 0.1, 9, -1))),
        Format("IQ4_XS", 256, 136, (_VALUES,), (_VALUES,)),
        Format("IQ4_NL", 32, 18, (_VALUES,), (_VALUES,)),
        Format("Q8_0", 32, 34, (), (), weighted=False),
    )
}

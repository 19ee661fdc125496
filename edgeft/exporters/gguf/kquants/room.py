"""Where things lie in a tile's working memory: one float32 array, so that a kernel is handed one pointer.

A *vector* is 16 floats, lane k for block k of the tile; "element i of lane k" lies at START + 16 i + k.
"""

ROWS = 0  # 4096 values as they came, block by block, when they had to be converted
X = ROWS + 4096  # the same turned: element e of block k
Q = X + 4096  # importances of the columns, turned likewise
W = Q + 4096  # weights of the errors in one sub-block, up to 32 vectors; of two or four, the others beside the first
PRODUCTS = W + 1024  # of sub-blocks of 16: weights times values
LEVELS = W + 2048  # levels of one sub-block, or of two or four likewise
SCALES = LEVELS + 2048  # a vector per sub-block (up to 16): its scale, as the search found it
MINIMUMS = SCALES + 256
SUMS = MINIMUMS + 256  # the sum of its weights
WHOLE_SCALES = SUMS + 256  # the integer that stands for its scale in the file, as a float
WHOLE_MINIMUMS = WHOLE_SCALES + 256
BLOCK_SCALE = WHOLE_MINIMUMS + 256  # one vector: d of the block
BLOCK_MINIMUM = BLOCK_SCALE + 16  # one vector: dmin (after d: the two may be a pair)
ODD = BLOCK_MINIMUM + 16  # one vector: not 0 where ggml has to do the block
HALVES = ODD + 16  # one vector: the bits of d in 16 bits, as a float
MINIMUM_HALVES = HALVES + 16  # one vector: the same of dmin
TURN = MINIMUM_HALVES + 16  # 16 vectors on their way to the next two
D = TURN + 256  # block by block: what a reader will multiply the levels of each sub-block with, 16 floats
M = D + 256  # likewise: what a reader will subtract
WHOLE = M + 256

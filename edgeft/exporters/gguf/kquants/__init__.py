"""The K-quants, IQ4_XS, IQ4_NL and Q8_0, many times faster than ggml's quantizer and byte for byte the same.

docs/kquants.md explains the formats, the searches, and why the lanes of a vector are blocks.

    formats                     the numbers of each type
    lanes values memory         a vector of 16 numbers: its operators, its functions, loads and stores
    arithmetic room tile        rounding, a tile's memory, the way into it
    search                      the searches for scales
    offset symmetric nonlinear  three families: scales of a block, and packing
    linear                      Q8_0, where nothing is searched
    kernels compiled            one compiled function per type, cached on disk
    source run                  rows in float32, bfloat16 or float16 -> bytes; ggml does the odd blocks
    trust cache                 the self-check against the installed library, and where its outcome is kept

Called by `edgeft.exporters.gguf.quantize`. Importing this package is light; `run` imports numba.
"""

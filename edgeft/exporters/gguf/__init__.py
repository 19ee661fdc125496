"""GGUF: base and adapter to one quantized file in a single pass, with llama.cpp's own choices and its own quantizer.

`families` knows the architectures, `vocab` the tokenizers, `layout` which type each tensor gets, `ggml` the quantizer,
`writer` the file; `export` joins them.
"""

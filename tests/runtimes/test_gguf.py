"""What is particular to GGUF files in llama.cpp: damaged files, the embedded template, contexts, the KV cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeft.errors import ModelError
from edgeft.runtimes import open_runtime
from edgeft.runtimes.gguf import open_gguf
from edgeft.runtimes.hf import open_hf
from tests.runtimes.gguf_made import make_gguf

ASK = [{"role": "user", "content": "Hi"}]


def test_a_cut_file_is_named_with_llama_cpps_reason(tiny_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:400_000])
    with pytest.raises(ModelError, match=r"llama.cpp cannot load this file: .*not within the file bounds"):
        open_gguf(cut)


def test_not_a_number_in_the_weights_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    data = bytearray(tiny_gguf.read_bytes())
    data[-4:] = np.float32("nan").tobytes()
    broken = tmp_path / "nan.gguf"
    broken.write_bytes(data)
    with pytest.raises(ModelError, match="invalid data"):
        open_gguf(broken)


def test_the_embedded_template_is_the_one_used(tiny_llama: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content | tojson }}{{ eos_token }}{% endfor %}"
    path = make_gguf(tmp_path / "own.gguf", tiny_llama, chat_template=template)
    with open_gguf(path) as runtime:
        assert runtime.render(ASK) == '<user>"Hi"<|im_end|>'


def test_a_bos_that_the_file_lacks_is_what_llama_cpp_makes_of_it(tiny_llama: Path, tmp_path: Path) -> None:
    """Without bos_token_id llama.cpp takes token 11, whatever it is; programs on top of it write that. It must show."""
    path = make_gguf(tmp_path / "bos.gguf", tiny_llama, chat_template="{{ bos_token }}{{ messages[0].content }}")
    with open_gguf(path) as runtime:
        assert runtime.render(ASK) == ",Hi"
        assert runtime.encode(",") == [11]


def test_a_text_alone_begins_as_in_transformers(tiny_gguf: Path, tiny_llama: Path) -> None:
    """Without a BOS a text begins behind the end token; llama.cpp would call token 11 the BOS of such a file."""
    with open_hf(tiny_llama) as reference, open_runtime(tiny_gguf) as runtime:
        assert runtime.prefix_id == reference.prefix_id != 11


def test_a_long_template_is_read_whole(tiny_llama: Path, tmp_path: Path) -> None:
    template = "{# " + "x" * 100_000 + " #}{{ messages[0].content }}"
    path = make_gguf(tmp_path / "long.gguf", tiny_llama, chat_template=template)
    with open_gguf(path) as runtime:
        assert runtime.render(ASK) == "Hi"


def test_without_a_template(tiny_llama: Path, tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "bare.gguf", tiny_llama, chat_template=None)
    with open_gguf(path) as runtime, pytest.raises(ModelError, match="no chat template"):
        runtime.render(ASK)


def test_the_template_runs_in_the_sandbox(tiny_llama: Path, tmp_path: Path) -> None:
    template = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    path = make_gguf(tmp_path / "evil.gguf", tiny_llama, chat_template=template)
    with open_gguf(path) as runtime, pytest.raises(ModelError, match="does not accept this conversation"):
        runtime.render(ASK)


def test_rows_longer_than_one_batch_of_llama_cpp(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp ends the process on a batch longer than it was made for; longer rows go in pieces."""
    from edgeft.runtimes import llama

    ids = [(7 * i) % 300 for i in range(400)]
    with open_gguf(tiny_gguf) as runtime:
        whole = runtime.logits(ids)
    monkeypatch.setattr(llama, "_OUTPUT_FLOATS", 320 * 30)
    with open_gguf(tiny_gguf) as runtime:
        pieces = runtime.logits(ids)
    assert pieces.shape == whole.shape == (400, 320)
    assert np.abs(pieces - whole).max() < 0.05


def test_a_conversation_goes_on_from_the_cache(tiny_gguf: Path) -> None:
    """The second prompt begins with the first: the answer is that of a fresh runtime."""
    with open_gguf(tiny_gguf) as runtime, open_gguf(tiny_gguf) as fresh:
        first = runtime.encode(runtime.render(ASK, add_generation_prompt=True))
        (answer,) = runtime.generate([first], max_tokens=6)
        longer = [*first, *answer.ids, *runtime.encode("<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n")]
        given = runtime.generate([longer, first, longer], max_tokens=6)
        expected = [fresh.generate([ids], max_tokens=6)[0] for ids in (longer, first, longer)]
        assert [a.ids for a in given] == [a.ids for a in expected]


def test_a_text_with_a_nul_is_encoded_whole(tiny_gguf: Path, tiny_llama: Path) -> None:
    from transformers import AutoTokenizer

    with open_gguf(tiny_gguf) as runtime:
        expected = AutoTokenizer.from_pretrained(tiny_llama).encode("a\x00b", add_special_tokens=False)
        assert runtime.encode("a\x00b") == expected
        assert runtime.decode(expected) == "a\x00b"


def test_a_sentencepiece_vocabulary_without_bytes_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    """llama.cpp would end the process at the first character outside such a vocabulary."""
    path = make_gguf(tmp_path / "spm.gguf", tiny_llama, tokenizer_model="llama")
    with pytest.raises(ModelError, match="0 of 256 byte tokens"):
        open_gguf(path)


def test_llama_cpp_says_nothing(tiny_gguf: Path) -> None:
    code = "import sys; from pathlib import Path; from edgeft.runtimes.gguf import open_gguf\n"
    code += "with open_gguf(Path(sys.argv[1])) as runtime: runtime.generate([[1, 2, 3]], max_tokens=2)"
    done = subprocess.run([sys.executable, "-c", code, str(tiny_gguf)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")

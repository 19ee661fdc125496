"""The models that tests stand on: real files, same bytes each time, an adapter that changes the answers."""

from __future__ import annotations

from pathlib import Path

from edgeft.files import digest_file
from tests.models_made import make_llama


def test_the_checkpoint_opens_and_answers(tiny_llama: Path, tiny_adapter: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Turn the light on."}], add_generation_prompt=True, tokenize=False
    )
    assert text == "<|im_start|>user\nTurn the light on.<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == 320
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    with torch.no_grad():
        plain = model(torch.tensor([ids])).logits
        tuned = PeftModel.from_pretrained(model, tiny_adapter)(torch.tensor([ids])).logits
    assert plain.shape == (1, len(ids), 320)
    assert (plain.argmax(-1) != tuned.argmax(-1)).any()


def test_same_arguments_give_the_same_bytes(tiny_llama: Path, tmp_path: Path) -> None:
    again = make_llama(tmp_path / "again")
    names = sorted(path.name for path in tiny_llama.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert all(digest_file(tiny_llama / name) == digest_file(again / name) for name in names)

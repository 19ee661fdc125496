"""Evaluation: greedy answers to held-out rows, scored by exact match of the whole answer."""

from collections import defaultdict

import torch
from tokenizers import Tokenizer

from tools.base import tokenizer as chatml
from tools.base.rows import Exchange


def prompt_ids(messages: list[dict[str, str]], tokenizer: Tokenizer) -> list[int]:
    """The conversation in ChatML, up to where the assistant starts to speak."""
    text = "".join(f"{chatml.START}{m['role']}\n{m['content']}{chatml.END}\n" for m in messages)
    return tokenizer.encode(f"{text}{chatml.START}assistant\n").ids


@torch.no_grad()
def answers(model, tokenizer: Tokenizer, prompts: list[list[int]], batch: int = 50, longest: int = 48) -> list[str]:
    """Greedy answers, in the order of the prompts."""
    pad, end = tokenizer.token_to_id(chatml.PAD), tokenizer.token_to_id(chatml.END)
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found = [""] * len(prompts)
    for first in range(0, len(order), batch):
        some = order[first : first + batch]
        width = max(len(prompts[i]) for i in some)
        ids = torch.tensor([[pad] * (width - len(prompts[i])) + prompts[i] for i in some])
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in some])
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=longest,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=pad,
        )
        for i, row in zip(some, output[:, width:].tolist(), strict=True):
            found[i] = tokenizer.decode(row[: row.index(end)] if end in row else row, skip_special_tokens=False)
    return found


def score(model, tokenizer: Tokenizer, held: dict[str, list[Exchange]], misses: int = 0) -> dict[str, float]:
    """Exact match in percent per family and per kind of problem; `misses` wrong answers of each family are printed."""
    right: dict[str, list[bool]] = defaultdict(list)
    for family, exchanges in held.items():
        prompts = [prompt_ids([{"role": "user", "content": e.ask}], tokenizer) for e in exchanges]
        shown = 0
        for exchange, answer in zip(exchanges, answers(model, tokenizer, prompts), strict=True):
            good = answer == exchange.answer
            right[family].append(good)
            right[exchange.kind].append(good)
            if not good and shown < misses:
                shown += 1
                print(f"  {exchange.ask!r} -> {answer!r}, not {exchange.answer!r}")
    return {name: 100 * sum(marks) / len(marks) for name, marks in right.items()}

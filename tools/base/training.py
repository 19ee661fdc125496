"""Pre-training: rows packed into fixed blocks, a small Llama, transformers' Trainer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

from tools.base import tokenizer as chatml
from tools.base.optimizer import build_optimizer
from tools.base.rows import Row
from tools.base.wiring import wire

IGNORED = -100


@dataclass(frozen=True)
class Size:
    """The shape of the model. Every width is a multiple of 256, so that K-quants apply to all of it."""

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 512
    context: int = 1024


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn. Bounded by steps, never by wall time, so that it can be repeated exactly."""

    steps: int = 2600
    batch: int = 10
    block: int = 256
    learning_rate: float = 3e-3
    matrix_rate: float = 0.008
    warmup: int = 30
    decay_steps: int = 1250
    seed: int = 11


def build_model(size: Size, tokenizer: Tokenizer, seed: int) -> LlamaForCausalLM:
    """A fresh model in float32."""
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=chatml.VOCAB_SIZE,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.hidden // size.heads,
        max_position_embeddings=size.context,
        rope_theta=10000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(chatml.END),
        pad_token_id=tokenizer.token_to_id(chatml.PAD),
    )
    model = LlamaForCausalLM(config)
    if size.layers > 1:
        wire(model, seed)
    return model


def encode(row: Row, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Token ids and labels: every token of plain text, only the assistant's words and their end in a conversation.

    The passages are random, so learning to predict them would teach noise.
    """
    end = tokenizer.token_to_id(chatml.END)
    if row.text:
        ids = [*tokenizer.encode(row.text).ids, tokenizer.token_to_id(chatml.PAD)]
        return ids, list(ids)
    start, newline = tokenizer.token_to_id(chatml.START), tokenizer.encode("\n").ids
    ids: list[int] = []
    labels: list[int] = []
    for message in row.messages():
        head = [start, *tokenizer.encode(message["role"] + "\n").ids]
        body = [*tokenizer.encode(message["content"]).ids, end]
        learned = message["role"] == "assistant"
        ids += head + body + newline
        labels += [IGNORED] * len(head) + (body if learned else [IGNORED] * len(body)) + [IGNORED] * len(newline)
    return ids, labels


class _Block:
    """A block being filled."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.labels: list[int] = []
        self.positions: list[int] = []

    def add(self, ids: list[int], labels: list[int]) -> None:
        self.ids += ids
        self.labels += labels
        self.positions += range(len(ids))

    def tensors(self, length: int, pad: int) -> dict[str, torch.Tensor]:
        rest = length - len(self.ids)
        return {
            "input_ids": torch.tensor(self.ids + [pad] * rest),
            "labels": torch.tensor(self.labels + [IGNORED] * rest),
            "position_ids": torch.tensor(self.positions + list(range(rest))),
        }


def blocks(
    rows: Iterable[Row], tokenizer: Tokenizer, length: int, open_blocks: int = 16
) -> Iterator[dict[str, torch.Tensor]]:
    """Whole rows packed into blocks of `length` tokens; positions restart with each row, which keeps rows apart.

    A row goes into the fullest open block it fits in; if it fits in none, the fullest block is finished. Rows longer
    than a block are left out.
    """
    pad = tokenizer.token_to_id(chatml.PAD)
    filling = [_Block() for _ in range(open_blocks)]
    for row in rows:
        ids, labels = encode(row, tokenizer)
        if len(ids) > length:
            continue
        fitting = [block for block in filling if len(block.ids) + len(ids) <= length]
        if not fitting:
            full = max(filling, key=lambda block: len(block.ids))
            filling.remove(full)
            yield full.tensors(length, pad)
            fitting = [_Block()]
            filling += fitting
        max(fitting, key=lambda block: len(block.ids)).add(ids, labels)


class Blocks(torch.utils.data.IterableDataset):
    """The endless corpus as blocks; written while it is read, so nothing is seen twice."""

    def __init__(self, rows, tokenizer: Tokenizer, length: int) -> None:
        self.rows, self.tokenizer, self.length = rows, tokenizer, length

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return blocks(self.rows(), self.tokenizer, self.length)


class AnswerTrainer(Trainer):
    """Computes logits only where there is something to learn: a quarter of the tokens, and the head is a big matrix."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean cross-entropy over the labelled tokens."""
        hidden = model.model(inputs["input_ids"], position_ids=inputs["position_ids"], use_cache=False)[0]
        targets = inputs["labels"][:, 1:]
        chosen = targets != IGNORED
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][chosen]), targets[chosen])
        return (loss, {}) if return_outputs else loss


def train(
    model: LlamaForCausalLM, data: Blocks, plan: Plan, folder: Path, resume: bool = False, save_every: int = 100
) -> Trainer:
    """Train `model` in place; checkpoints go to `folder`, and `resume` goes on from the newest."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch,
        logging_steps=20,
        save_steps=save_every,
        save_total_limit=2,
        seed=plan.seed,
        data_seed=plan.seed,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        max_grad_norm=1.0,
        remove_unused_columns=False,
        dataloader_num_workers=0,
    )
    optimizers = build_optimizer(model, plan)
    trainer = AnswerTrainer(model=model, args=arguments, train_dataset=data, optimizers=optimizers)
    trainer.train(resume_from_checkpoint=resume or None)
    return trainer

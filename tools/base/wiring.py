"""The start of training: two attention layers wired to look things up, instead of random ones.

Copying from the prompt needs a pair of heads ("induction heads"): one in the first layer that tells each token which
token stood before it, one in the second that finds where the current token appeared earlier and brings what followed.
From random weights a small model needs millions of tokens to find that pair, more than a CPU reads in an hour. So the
pair is written into the initial weights; training then bends it to its needs.
"""

import torch
from transformers import LlamaForCausalLM

EMBEDDING_STD = 0.04
PREVIOUS_PAIRS, PREVIOUS_GAIN = 6, 1.0
MATCH_GAIN, WRITE_GAIN, COPY_GAIN = 1.5, 0.12, 0.4


def _bases(hidden: int, sizes: list[int], generator: torch.Generator) -> list[torch.Tensor]:
    """Random subspaces of the hidden space, orthogonal to each other: orthonormal rows, one matrix a size."""
    square = torch.linalg.qr(torch.randn(hidden, hidden, generator=generator))[0]
    return list(square.split([*sizes, hidden - sum(sizes)]))[: len(sizes)]


def _previous_token_vectors(head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A constant key and the query that, under rotary positions, agrees most with the key one token earlier."""
    half = head_dim // 2
    angle = theta ** (-torch.arange(half) / half)
    used = (torch.arange(half) < PREVIOUS_PAIRS).float()
    key = torch.cat([used, torch.zeros(half)])
    query = torch.cat([used * torch.cos(angle), -used * torch.sin(angle)])
    return query, key


@torch.no_grad()
def wire(model: LlamaForCausalLM, seed: int) -> None:
    """Overwrite the embeddings and parts of the first two attention layers, in place."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    hidden, head_dim, groups = config.hidden_size, config.head_dim, config.num_key_value_heads
    heads_a_group, half = config.num_attention_heads // groups, head_dim // 2
    # Matching happens in the slowly turning half of the rotary pairs, where distance hardly matters.
    slow = torch.cat([torch.arange(half // 2, half), torch.arange(half + half // 2, head_dim)])
    sizes = [1] + [len(slow)] * (2 * groups)
    constant, *spaces = _bases(hidden, sizes, generator)
    tokens, previous = spaces[:groups], spaces[groups:]

    embedding = model.model.embed_tokens.weight
    embedding.normal_(0, EMBEDDING_STD, generator=generator)
    embedding += EMBEDDING_STD * hidden**0.5 * constant

    first, second = (model.model.layers[i].self_attn for i in (0, 1))
    query, key = _previous_token_vectors(head_dim, config.rope_parameters["rope_theta"])
    first.q_proj.weight[:head_dim] = PREVIOUS_GAIN * query[:, None] * constant
    first.k_proj.weight[:head_dim] = PREVIOUS_GAIN * key[:, None] * constant
    first.v_proj.weight[:head_dim] = torch.cat(tokens)[:head_dim]
    first.o_proj.weight[:, :head_dim] = WRITE_GAIN * torch.cat(previous)[:head_dim].T
    for group in range(groups):
        rows = slow + group * head_dim
        second.k_proj.weight[group * head_dim : (group + 1) * head_dim] = 0
        second.k_proj.weight[rows] = MATCH_GAIN * previous[group]
        (brought,) = _bases(hidden, [head_dim], generator)
        second.v_proj.weight[group * head_dim : (group + 1) * head_dim] = brought
        head = group * heads_a_group
        second.q_proj.weight[head * head_dim : (head + 1) * head_dim] = 0
        second.q_proj.weight[slow + head * head_dim] = MATCH_GAIN * tokens[group]
        second.o_proj.weight[:, head * head_dim : (head + 1) * head_dim] = COPY_GAIN * brought.T

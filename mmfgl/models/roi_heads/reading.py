"""Run the region Transformer over images with different numbers of RoIs.

Shape shorthand: B images, N candidates of an image, Q important targets of an
image, D token width.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmfgl.models.layers import RegionTransformer


def read_candidates(
    transformer: RegionTransformer,
    tokens: Sequence[Tensor],
    masks: Sequence[Tensor],
    targets: Sequence[Tensor],
    boxes: Sequence[Tensor],
) -> list[Tensor]:
    """Encode the candidates and decode the targets of each image.

    Images never attend each other. Those with equal numbers of candidates
    and targets go through together; nothing is padded.

    Args:
        transformer: The region Transformer.
        tokens: (N, D) tokens with position embedding of each image.
        masks: (N, N) bool attention mask of each image.
        targets: (Q,) long indices of the targets of each image.
        boxes: (N, 4) candidates of each image, any one frame.

    Returns:
        One (Q, D) tensor an image.
    """
    groups = defaultdict(list)
    for index, (token, target) in enumerate(zip(tokens, targets, strict=True)):
        groups[len(token), len(target)].append(index)
    outputs: list[Tensor] = [token[:0] for token in tokens]
    for members in groups.values():
        parts = (
            torch.stack([values[i] for i in members])
            for values in (tokens, masks, targets, boxes)
        )
        answers = _encode_decode(transformer, *parts)
        for index, answer in zip(members, answers, strict=True):
            outputs[index] = answer
    return outputs


def add_scene(mask: Tensor) -> Tensor:
    """Add a last candidate that all may read and that reads none.

    Args:
        mask: (N, N) bool attention mask.

    Returns:
        (N + 1, N + 1) bool mask.
    """
    mask = F.pad(mask, (0, 1, 0, 1))
    mask[:, -1] = True
    return mask


def _encode_decode(
    transformer: RegionTransformer,
    tokens: Tensor,
    mask: Tensor,
    targets: Tensor,
    boxes: Tensor,
) -> Tensor:
    """Embeddings of the targets of B images.

    Args:
        transformer: The region Transformer.
        tokens: (B, N, D) tokens.
        mask: (B, N, N) bool attention mask.
        targets: (B, Q) long indices.
        boxes: (B, N, 4) candidates.

    Returns:
        (B, Q, D) embeddings.
    """
    if targets.shape[1] == 0:
        # nobody asks: keep the parameters in the graph, so that distributed
        # training does not wait for their gradients
        zero = sum(p.sum() for p in transformer.parameters()) * 0
        return tokens[:, :0] + zero + tokens.sum() * 0
    memory = transformer.encode(tokens, mask, boxes)
    if targets.shape[1] == tokens.shape[1]:
        return transformer.decode(tokens, memory, mask, boxes, boxes)
    queries, rows, asked = (
        values.gather(1, targets[..., None].expand(-1, -1, values.shape[-1]))
        for values in (tokens, mask, boxes)
    )
    return transformer.decode(queries, memory, rows, asked, boxes)

"""Count floating-point operations by PyTorch's counter."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flops(run: Callable[[], object]) -> int:
    """Operations of a forward pass.

    Matrix products, convolutions and attention count, a multiply-add as two
    operations; RoIAlign, NMS and elementwise operations do not. ``run`` does
    the pass, without gradients.
    """
    # PyTorch's own table lacks the attention kernel of CPUs
    name = '_scaled_dot_product_flash_attention_for_cpu'
    packet = getattr(torch.ops.aten, name, None)
    custom = {packet: _attention_flops} if packet is not None else {}
    counter = FlopCounterMode(display=False, custom_mapping=custom)
    with torch.no_grad(), counter:
        run()
    return counter.get_total_flops()


def _attention_flops(query, key, value, *_, **__) -> int:
    """Operations of q k^T and of the weighted sum of values."""
    batch, heads, queries, width = getattr(query, 'shape', query)
    length = getattr(key, 'shape', key)[2]
    value_width = getattr(value, 'shape', value)[3]
    return 2 * batch * heads * queries * length * (width + value_width)

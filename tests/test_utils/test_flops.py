import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmfgl.utils.flops import count_flops


def test_a_multiply_add_is_two_and_no_graph_is_kept():
    layer, outputs = nn.Linear(8, 5, bias=False), []
    flops = count_flops(lambda: outputs.append(layer(torch.zeros(3, 8))))
    assert flops == 2 * 3 * 8 * 5
    assert not outputs[0].requires_grad


@pytest.mark.parametrize('mask', [None, torch.ones(1, 1, 6, 4).bool()])
def test_attention_counts(mask):
    query, key = torch.zeros(2, 3, 6, 8), torch.zeros(2, 3, 4, 8)

    def run():
        F.scaled_dot_product_attention(query, key, key, attn_mask=mask)

    assert count_flops(run) == 2 * 2 * (2 * 3 * 6 * 4 * 8)

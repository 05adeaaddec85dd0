# Ablation of the arm retod from random weights: dense distillation weighs a
# quarter, as from ImageNet weights.
#   python tools/benchmarks/transfer.py --arms retod5 --init random \
#       --detector faster-rcnn ...
_base_ = './retod_faster-rcnn_r18-half-fpn_1xb8.py'

model = dict(tasks=[_base_.objectness, dict(_base_.dense, loss_weight=5.0)])

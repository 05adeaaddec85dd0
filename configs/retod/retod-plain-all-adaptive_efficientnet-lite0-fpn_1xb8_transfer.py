# Ablation of the arm retod: every task under the full Task Adaptive Loss
# (accuracy, stability gate, diversity floor, skipping of tasks).
#   python tools/benchmarks/transfer.py --arms retod-all,retod-all-adaptive \
#       --init imagenet ...
_base_ = './retod-plain-all_efficientnet-lite0-fpn_1xb8_transfer.py'

model = dict(balancer=dict(type='mmfgl.TaskAdaptiveLoss', speed=dict()))

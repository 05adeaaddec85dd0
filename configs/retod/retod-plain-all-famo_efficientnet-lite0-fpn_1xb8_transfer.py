# Ablation of the arm retod: every task, balanced by FAMO.
#   python tools/benchmarks/transfer.py --arms retod-all,retod-all-famo \
#       --init imagenet ...
_base_ = './retod-plain-all_efficientnet-lite0-fpn_1xb8_transfer.py'

model = dict(balancer=dict(type='mmfgl.FAMOBalancer'))

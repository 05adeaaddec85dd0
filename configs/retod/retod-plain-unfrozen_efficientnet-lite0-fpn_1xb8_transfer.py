# Ablation of the arm retod: every layer is trained, as in the arms of the
# peers; ReToD's other arms freeze the layers up to stride 4.
#   python tools/benchmarks/transfer.py --arms retod,retod-unfrozen \
#       --init imagenet ...
_base_ = './retod-plain_efficientnet-lite0-fpn_1xb8_transfer.py'

custom_hooks = _base_.custom_hooks[:-1]

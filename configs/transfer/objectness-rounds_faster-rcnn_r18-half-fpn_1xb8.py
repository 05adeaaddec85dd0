# The arm objectness in two rounds, half-width ResNet-18 from random weights:
# the second learns from what the first finds and from the search, together,
# and starts from its weights; each has half of the time.
#   python tools/benchmarks/transfer.py --arms objectness-rounds \
#       --init random --detector faster-rcnn ...
_base_ = './objectness_faster-rcnn_r18-half-fpn_1xb8.py'

rounds = 2

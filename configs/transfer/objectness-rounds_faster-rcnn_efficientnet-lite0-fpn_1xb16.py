# The arm objectness in two rounds, from ImageNet weights: the second learns
# from what the first finds and from the search, together, and starts from its
# weights; each has half of the time.
#   python tools/benchmarks/transfer.py --arms objectness-rounds \
#       --init imagenet --detector faster-rcnn ...
_base_ = './objectness_faster-rcnn_efficientnet-lite0-fpn_1xb16.py'

rounds = 2

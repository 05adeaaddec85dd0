"""FGL Faster R-CNN: a two-stage detector for look-alike classes."""

import torch
from mmdet.models.detectors import FasterRCNN
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfgl.models.layers import has_area
from mmfgl.registry import MODELS, TASK_UTILS
from mmfgl.utils.model import to_fp32


@MODELS.register_module()
class FGLFasterRCNN(FasterRCNN):
    """Faster R-CNN (arXiv 1506.01497) with an FGL RoI head.

    Candidates come from the RPN or, with ``rpn_head=None``, from a region
    proposer such as the multi-scale grid, the same for training and test.

    Args:
        rpn_head: Config of the RPN, or ``None``.
        region_proposer: Config of a region proposer (see
            :mod:`mmfgl.datasets.region_proposers`), or ``None``.
        **kwargs: Arguments of :class:`mmdet.models.FasterRCNN`; its
            ``roi_head`` is usually a ``mmfgl.FGLRoIHead``.

    Raises:
        ValueError: If both or neither of the two is given.
    """

    def __init__(
        self,
        rpn_head: dict | None = None,
        region_proposer: dict | None = None,
        **kwargs,
    ) -> None:
        if (rpn_head is None) == (region_proposer is None):
            raise ValueError(
                'FGLFasterRCNN takes its candidates from exactly one of '
                'rpn_head and region_proposer: set the other to None'
            )
        super().__init__(rpn_head=rpn_head, **kwargs)
        if rpn_head is not None:
            # under autocast too, boxes are computed from maps in fp32
            self.rpn_head.register_forward_hook(_in_fp32)
        self.region_proposer = None
        if region_proposer is not None:
            self.region_proposer = TASK_UTILS.build(region_proposer)

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Depth of a parameter, for layer-wise decay of the learning rate.

        ``mmpretrain.LearningRateDecayOptimWrapperConstructor`` asks the model
        for it; the backbone answers, and all that follows it counts as its
        last layer. Needs a backbone of mmpretrain that knows its depths, such
        as ``VisionTransformer``. Returns depth and number of layers.
        """
        return self.backbone.get_layer_depth(param_name, prefix='backbone.')

    def propose(
        self, feats: tuple[Tensor, ...], batch_data_samples: list
    ) -> list[InstanceData]:
        """Candidates of the images of a batch.

        Proposals that the data samples hold already are taken; without an RPN
        those of the region proposer are written into them.

        Returns:
            Instances of each image with ``bboxes`` in network-input pixels
            and ``scores``.
        """
        self._add_proposals(batch_data_samples, feats[0].device)
        if batch_data_samples[0].get('proposals') is None:
            return self.rpn_head.predict(
                feats, batch_data_samples, rescale=False
            )
        return [sample.proposals for sample in batch_data_samples]

    def loss(self, batch_inputs: Tensor, batch_data_samples: list) -> dict:
        """Losses of a batch; see :class:`FasterRCNN`.

        Objects whose box is not finite or has no area (cut off by a crop,
        annotated in another image size) are left out.
        """
        for sample in batch_data_samples:
            truth = sample.gt_instances
            sample.gt_instances = truth[has_area(truth.bboxes)]
        self._add_proposals(batch_data_samples, batch_inputs.device)
        return super().loss(batch_inputs, batch_data_samples)

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: list,
        rescale: bool = True,
    ) -> list:
        """Detections of a batch; see :class:`FasterRCNN`."""
        self._add_proposals(batch_data_samples, batch_inputs.device)
        return super().predict(batch_inputs, batch_data_samples, rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: list):
        """'tensor' mode; see :class:`FasterRCNN`."""
        self._add_proposals(batch_data_samples, batch_inputs.device)
        return super()._forward(batch_inputs, batch_data_samples)

    def _add_proposals(
        self, batch_data_samples: list, device: torch.device
    ) -> None:
        """Give every image the proposals of the region proposer, if any."""
        if self.region_proposer is None:
            return
        for sample in batch_data_samples:
            boxes = self.region_proposer.propose(sample.metainfo)
            boxes = torch.as_tensor(boxes, dtype=torch.float32, device=device)
            sample.proposals = InstanceData(
                bboxes=boxes, scores=boxes.new_ones(len(boxes))
            )


def _in_fp32(module: nn.Module, args: tuple, maps: tuple) -> tuple:
    """A forward hook; no lambda, so that the model can be pickled."""
    return to_fp32(maps)

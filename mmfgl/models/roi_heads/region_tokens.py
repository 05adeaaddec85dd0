"""Tokens of the candidates of a batch of images.

Shape shorthand: B images, R RoIs of the batch, N RoIs of one image, E extra
candidates of one image, D token width.
"""

from collections.abc import Sequence

import torch
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn

from mmfgl.models.layers.boxes import normalise_boxes
from mmfgl.models.roi_heads.scene import Scene


class RegionTokens:
    """Mixin of :class:`FGLRoIHead`: RoIs to region tokens.

    It needs the attributes ``bbox_roi_extractor``, ``tokenizer``,
    ``scene_token``, and those of a mask head of mmdet's ``StandardRoIHead``.
    """

    def region_tokens(self, feats: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Tokens of RoIs, without position embedding.

        Args:
            feats: Pyramid levels, each (B, C, H_l, W_l).
            rois: (R, 5) rows (image index, x1, y1, x2, y2), network-input
                pixels.

        Returns:
            (R, D) tokens.
        """
        extractor, tokenizer = self.bbox_roi_extractor, self.tokenizer
        feats = feats[: extractor.num_inputs]
        squeeze = getattr(tokenizer, 'squeeze', None)
        if hasattr(extractor, 'squeezed') and isinstance(squeeze, nn.Conv2d):
            return tokenizer.read(extractor.squeezed(feats, rois, squeeze))
        return tokenizer(extractor(feats, rois))

    def _content(
        self, x: tuple[Tensor, ...], rois: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """(R, D) tokens, and the RoI features if a mask head shares them."""
        if not (self.with_mask and self.share_roi_extractor):
            return self.region_tokens(x, rois), None
        extractor = self.bbox_roi_extractor
        roi_feats = extractor(x[: extractor.num_inputs], rois)
        return self.tokenizer(roi_feats), roi_feats

    def _tokens(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor,
        counts: list[int],
        scenes: list[Scene],
    ) -> tuple[list[Tensor], tuple | None, Tensor | None]:
        """Tokens with position embedding.

        Args:
            x: Pyramid levels.
            rois: (R, 5) RoIs, sorted by image.
            counts: Number N of RoIs of each image.
            scenes: The images.

        Returns:
            - (N + E, D) tokens of the RoIs and extra candidates of each
              image; the latter take no gradient.
            - Tokens (1, D) and boxes (1, 4) of the whole images, or ``None``
              without ``scene_token``.
            - RoI features if a mask head shares them.
        """
        boxes = list(rois[:, 1:].split(counts))
        frames = [
            rois.new_tensor([[0, 0, s.img_shape[1], s.img_shape[0]]])
            for s in scenes
        ]
        asked = rois
        if self.scene_token:
            asked = torch.cat([rois, bbox2roi(frames)])
        content, roi_feats = self._content(x, asked)
        content, last = content.split([len(rois), len(asked) - len(rois)])
        if roi_feats is not None:
            roi_feats = roi_feats[: len(rois)]
        tokens = self._placed(content.split(counts), boxes, scenes)
        whole = None
        if self.scene_token:
            ones = [1] * len(scenes)
            whole = self._placed(last.split(ones), frames, scenes), frames
        extras = [
            rois.new_zeros(0, 4) if s.extra is None else s.extra.to(rois)
            for s in scenes
        ]
        if any(len(extra) for extra in extras):
            with torch.no_grad():
                content = self.region_tokens(x, bbox2roi(extras))
            content = content.split([len(extra) for extra in extras])
            more = self._placed(content, extras, scenes)
            tokens = [torch.cat(p) for p in zip(tokens, more, strict=True)]
        return tokens, whole, roi_feats

    def _placed(
        self,
        content: Sequence[Tensor],
        boxes: Sequence[Tensor],
        scenes: list[Scene],
    ) -> list[Tensor]:
        """Add the position embeddings to the tokens of each image."""
        places = torch.cat(
            [
                normalise_boxes(b.float(), s.img_shape)
                for b, s in zip(boxes, scenes, strict=True)
            ]
        )
        places = self.tokenizer.embed_position(places)
        counts = [len(b) for b in boxes]
        return list((torch.cat(list(content)) + places).split(counts))

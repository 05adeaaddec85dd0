"""ReToD: Region-Token Distillation.

Shape shorthand: B images, V views of each, N regions an image. Views are
stacked view by view: row ``v * B + b``.
"""

from collections.abc import Sequence

import torch
from mmdet.models.detectors import TwoStageDetector
from mmengine.config import ConfigDict
from mmengine.model import ModuleDict
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor, nn

from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.models.detectors import FGLFasterRCNN
from mmfgl.models.selfsup.task_context import TaskContext
from mmfgl.registry import MODELS

# Without masks in the pseudo ground truth nothing would train these.
_MASK_BRANCH = ('mask_roi_extractor', 'mask_head')
# Parts of RoI heads that learn from labels of pixels or images.
_LABELLED = ('mask_iou_head', 'point_head', 'semantic_head', 'glbctx_head')


@MODELS.register_module()
class ReToD(BaseSelfSupervisor):
    """Self-supervised pretraining of the very modules a detector uses.

    It wraps the config of any two-stage detector of MMDetection that learns
    from boxes by the losses of its RPN and RoI head alone, builds it,
    and registers its children under their own names (``backbone.``,
    ``neck.``, ``rpn_head.``, ``roi_head.``), so that a checkpoint loads into
    the detector as it is; of a box head for other classes all but its class
    layer. The mask branch, if there is one, is left out: pseudo ground truth
    has no masks. mmdet's RPN head is built as :class:`BatchedRPNHead`, which
    has the same weights. Images are normalised as the detector's are.

    Args:
        detector: Config of the detector; ``num_classes`` of its box head is
            the number of pseudo-classes.
        tasks: Configs of the tasks, see :mod:`mmfgl.models.selfsup.tasks`.
        head: Config of :class:`PrototypeHead`, for tasks over prototypes.
        target_generator: Config of :class:`EMATeacher`, for tasks that learn
            from it; :class:`TeacherHook` has to move it then.
        balancer: Config of the balancer of the tasks, e.g.
            :class:`TaskAdaptiveLoss`. Defaults to :class:`FixedBalancer`, the
            plain sum.
        data_preprocessor: Config of the data preprocessor, by default
            :class:`RegionDataPreprocessor` with the mean, standard deviation
            and channel order of the detector's.
        init_cfg: Initialisation config of MMEngine.

    Raises:
        ValueError: If there is no task, a task is listed twice, or the
            detector lacks what a task trains.
    """

    def __init__(
        self,
        detector: dict,
        tasks: Sequence[dict],
        head: dict | None = None,
        target_generator: dict | None = None,
        balancer: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        built = _build_detector(detector)
        normalisation = data_preprocessor or _normalisation(detector)
        super().__init__(
            backbone=built.backbone,
            neck=built.neck if built.with_neck else None,
            head=head,
            data_preprocessor=normalisation,
            init_cfg=init_cfg,
        )
        # how views reach a teacher that wants them otherwise
        self.normalisation = normalisation
        averaged = []
        for name, child in built.named_children():
            if name != 'data_preprocessor':
                self.add_module(name, child)
                averaged.append(name)
        # as TwoStageDetector.loss() chooses them
        self.proposal_cfg = built.train_cfg.get(
            'rpn_proposal', built.test_cfg.get('rpn')
        )
        if head is not None:
            averaged.append('head.projector')
        if target_generator is not None:
            self.target_generator = MODELS.build(
                target_generator,
                default_args=dict(student=self, modules=averaged),
            )
        self.tasks = self._build_tasks(tasks)
        self.balancer = MODELS.build(
            balancer or dict(type='mmfgl.FixedBalancer'),
            default_args=dict(tasks=list(self.tasks)),
        )
        # set by the hook that updates the teacher
        self.teacher_is_driven = False

    def _build_tasks(self, tasks: Sequence[dict]) -> nn.ModuleDict:
        """Build the tasks, by name, and check them against the model."""
        built = ModuleDict()
        for cfg in tasks:
            task = MODELS.build(cfg)
            if task.name in built:
                raise ValueError(f'the task {task.name!r} is listed twice')
            task.check(self)
            built[task.name] = task
        if not built:
            raise ValueError(
                'ReToD has no task: list one, e.g. '
                "tasks=[dict(type='mmfgl.ObjectnessTask')]"
            )
        return built

    @property
    def teacher(self) -> nn.Module | None:
        """The EMA teacher, or ``None``."""
        return self.target_generator

    def extract_feat(self, inputs: Tensor | list[Tensor]) -> tuple[Tensor]:
        """Pyramid features of the student.

        Args:
            inputs: (B, 3, H, W) images, or a list of views, of which the
                first is taken.

        Returns:
            Pyramid levels, each (B, C, H_l, W_l).
        """
        feats = self.backbone(
            inputs[0] if isinstance(inputs, list) else inputs
        )
        return self.neck(feats) if self.with_neck else feats

    def update_teacher(self, momentum: float) -> None:
        """Move the EMA teacher, once an optimizer step.

        Args:
            momentum: Share of the teacher's weights that is kept.
        """
        self.target_generator.update(self, momentum)

    def loss(
        self, inputs: list[Tensor], data_samples: list[RegionDataSample]
    ) -> dict[str, Tensor]:
        """Losses of a batch of images in their views.

        Args:
            inputs: V tensors (B, 3, H, W), one a view.
            data_samples: Regions and objects of the B images.

        Returns:
            ``loss_<task>`` and statistics to log.

        Raises:
            RuntimeError: In training, if nothing updates the teacher.
        """
        self._check_teacher()
        views = torch.cat(inputs)  # (V B, 3, H, W)
        context = TaskContext(self, views, data_samples)
        context.feats  # noqa: B018  (computed here, at no task's cost)
        draw = self.balancer.draw()
        running = {
            name: task
            for name, task in self.tasks.items()
            if name in draw.scales
        }
        for shared in ('logits', 'targets'):
            users = [k for k, task in running.items() if shared in task.needs]
            if users:
                with draw.measure(*users):
                    getattr(context, shared)
        losses = {}
        for name, task in running.items():
            with draw.measure(name):
                losses[name] = task.loss(context)
        out = self.balancer(losses, draw)
        if len(running) < len(self.tasks) or 'objectness' not in running:
            self._keep_in_graph(out)
        return out

    def _check_teacher(self) -> None:
        """Raise if a teacher stands still; let it start from the student."""
        if self.target_generator is None:
            return
        if self.training and not self.teacher_is_driven:
            raise RuntimeError(
                "nothing updates ReToD's EMA teacher: add dict(type='mmfgl."
                "TeacherHook') to custom_hooks, or, in your own training "
                'loop, set model.teacher_is_driven = True and call '
                'model.update_teacher(momentum) after every optimizer step'
            )
        self.target_generator.start(self)

    def _keep_in_graph(self, losses: dict[str, Tensor]) -> None:
        """Give parts that no loss has read a gradient of zero, in place.

        Distributed training waits for the gradient of every parameter.
        """
        zero = sum(
            param.sum()
            for name, param in self.named_parameters()
            if param.requires_grad and not name.startswith('backbone.')
        )
        name = next(key for key in losses if 'loss' in key)
        losses[name] = losses[name] + zero * 0


def _build_detector(cfg: dict) -> nn.Module:
    """Build a detector without its mask branch; ``cfg`` is left alone.

    mmdet's RPN becomes the batched one, which differs in nothing but speed.

    Raises:
        ValueError: It learns by more than its RPN and RoI head, or from more
            than boxes, or starts as a whole from weights.
    """
    if cfg.get('init_cfg'):
        raise ValueError(
            'init_cfg of the detector that ReToD wraps would be passed over: '
            'give the file as load_from of the config instead'
        )
    if more := [key for key in _LABELLED if cfg['roi_head'].get(key)]:
        raise ValueError(
            f'ReToD cannot wrap a {cfg["type"]} with a {" and ".join(more)}: '
            'pseudo ground truth has boxes alone; leave it out, or wrap '
            'another detector'
        )
    # the detector's config names mmdet's parts without a scope
    cfg = ConfigDict({'_scope_': 'mmdet', **cfg})
    rpn = cfg.get('rpn_head') or {}
    if rpn.get('type') in ('RPNHead', 'mmdet.RPNHead'):
        cfg.rpn_head = ConfigDict(rpn, type='mmfgl.BatchedRPNHead')
    cfg.roi_head = ConfigDict(
        {k: v for k, v in cfg.roi_head.items() if k not in _MASK_BRANCH}
    )
    detector = MODELS.build(cfg)
    if type(detector).loss not in (TwoStageDetector.loss, FGLFasterRCNN.loss):
        raise ValueError(
            f'ReToD cannot wrap a {cfg["type"]}: its loss is more than those '
            'of RPN and RoI head, which is all that pretraining asks for'
        )
    return detector


def _normalisation(detector: dict) -> dict:
    """How a detector normalises images, for the data preprocessor."""
    cfg = detector.get('data_preprocessor') or {}
    keys = ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr')
    return dict(
        type='mmfgl.RegionDataPreprocessor',
        **{key: cfg[key] for key in keys if key in cfg},
    )

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from mmfgl.models.selfsup import TaskContext
from mmfgl.models.selfsup.tasks.objectness import pseudo_samples
from mmfgl.models.selfsup.tasks.teacher_boxes import TeacherBoxes, recall
from mmfgl.testing import tiny_fgl_cfg, tiny_plain_detector_cfg

TEACHER = dict(type='mmfgl.EMATeacher')


@pytest.fixture
def progress():
    """Sets how far the run is."""
    hub = MessageHub.get_current_instance()
    before = dict(hub.runtime_info)

    def set_progress(done, whole=10):
        hub.update_info('iter', done)
        hub.update_info('max_iters', whole)

    yield set_progress
    hub.runtime_info.clear()
    hub.runtime_info.update(before)


def build(retod, detector, **options):
    task = dict(type='mmfgl.ObjectnessTask', teacher_boxes=options)
    return retod.build(
        'objectness', detector=detector, tasks=[task], target_generator=TEACHER
    )


@pytest.mark.parametrize('kind', ['fgl', 'plain'])
@pytest.mark.parametrize('num_objects', [0, 3])
def test_joins_after_its_start(retod, progress, kind, num_objects):
    """With both heads, with and without boxes of the file."""
    detector = dict(fgl=tiny_fgl_cfg, plain=tiny_plain_detector_cfg)[kind]
    model = build(
        retod, detector(num_classes=4), start=0.3, num=5, score_thr=0.0
    )
    options = dict(num_objects=num_objects, num_labels=4)
    logs = {}
    for done in (2, 3):
        progress(done)
        logs[done] = retod.losses_of(model, **options)
    assert not any('teacher' in key for key in logs[2])
    for key in ('teacher_boxes', 'teacher_recall', 'student_recall'):
        assert logs[3][f'objectness/{key}'].isfinite()
    assert 0 < logs[3]['objectness/teacher_boxes'] <= 5
    assert logs[3]['loss_objectness'] != logs[2]['loss_objectness']
    retod.check_gradients(model, logs[3])


def test_which_boxes_join(retod, progress, monkeypatch):
    progress(9)
    model = build(retod, tiny_plain_detector_cfg(num_classes=4))
    batch = retod.batch_of(model, num_views=1, num_objects=1, num_labels=4)
    views = torch.cat(batch['inputs'])
    context = TaskContext(model, views, batch['data_samples'])
    samples = pseudo_samples(context)
    own = [sample.gt_instances.bboxes for sample in samples]
    # clear of the file's box, one above the other; and that box itself
    corner = 1000.0
    boxes = torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 19]])
    found = [
        InstanceData(
            bboxes=torch.cat([boxes + corner, box + 1]),
            scores=torch.tensor([0.6, 0.5, 0.9]),
            labels=torch.tensor([3, 2, 0]),
        )
        for box in own
    ]
    joining = TeacherBoxes(iou_thr=0.5)
    monkeypatch.setattr(joining, 'detect', lambda *args: found)
    logs = joining.join(context, samples)
    for sample, box in zip(samples, own, strict=True):
        kept = sample.gt_instances
        expected = torch.cat([box, boxes[:1] + corner])
        torch.testing.assert_close(kept.bboxes, expected)
        assert kept.labels[1:].tolist() == [3]
    assert logs['teacher_boxes'] == 1 and logs['teacher_recall'] == 1


def test_boxes_without_area_do_not_join(retod, progress, monkeypatch):
    progress(9)
    model = build(retod, tiny_plain_detector_cfg(num_classes=4))
    head = model.target_generator.roi_head
    boxes = [[64.0, 10, 64, 30], *[[1.0, 2, 9, 9]] * 9]

    def predict(feats, proposals, samples, rescale):
        return [
            InstanceData(
                bboxes=torch.tensor(boxes),
                scores=torch.ones(10),
                labels=torch.zeros(10, dtype=torch.long),
            )
            for _ in samples
        ]

    monkeypatch.setattr(head, 'predict', predict)
    batch = retod.batch_of(model, num_views=1, num_objects=1, num_labels=4)
    views = torch.cat(batch['inputs'])
    context = TaskContext(model, views, batch['data_samples'])
    samples = pseudo_samples(context)
    teacher = model.target_generator
    for found in TeacherBoxes().detect(teacher, context, samples):
        assert found.bboxes.tolist() == boxes[1:6]


def test_only_what_the_rpn_is_sure_of(retod, progress):
    progress(9)
    detector = tiny_plain_detector_cfg(num_classes=4)
    model = build(retod, detector, score_thr=1.1)
    losses = retod.losses_of(model, num_labels=4)
    assert losses['objectness/teacher_boxes'] == 0
    assert losses['loss_objectness'].isfinite()


def test_recall():
    def instances(*boxes):
        return InstanceData(bboxes=torch.tensor(boxes).view(-1, 4).float())

    first, second = [0, 0, 10, 10], [20, 0, 30, 10]
    objects = [instances(first, second), instances(first)]
    assert recall(objects, [instances([0, 0, 10, 6]), instances()]) == 1 / 3
    assert recall(objects, objects) == 1
    assert recall([instances()], [instances(first)]) == 0


@pytest.mark.parametrize(
    'options', [dict(start=1.0), dict(start=-0.1), dict(num=0)]
)
def test_settings_out_of_range(options):
    with pytest.raises(ValueError, match='teacher_boxes needs'):
        TeacherBoxes(**options)


def test_needs_a_teacher(retod):
    task = dict(type='mmfgl.ObjectnessTask', teacher_boxes=dict())
    with pytest.raises(ValueError, match='target_generator'):
        retod.build('objectness', tasks=[task])

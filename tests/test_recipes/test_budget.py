import json
from types import SimpleNamespace

import pytest

from mmfgl.recipes.budget import PARTS, REPORT, Budget, Length, Speed
from mmfgl.recipes.steps import RunSteps

SPEED = Speed.of(0.8, cores=2)
BEFORE = 12.0


def make(**kwargs):
    return Budget(SPEED, photos=200, val=50, before=BEFORE, **kwargs)


def rows(steps):
    return {name: seconds for name, _, seconds in steps.plan()}


def test_the_parts_add_up_to_the_minutes():
    budget = make(minutes=30)
    before = sum(map(budget.fixed, PARTS[:3]))
    pretrain = budget.pretrain(before).seconds
    spent = before + budget.fixed('pretrain') + pretrain
    finetune = budget.finetune(spent)
    fixed = sum(map(budget.fixed, PARTS)) + REPORT + BEFORE
    assert pretrain == pytest.approx(finetune.seconds, abs=0.2)
    assert fixed + pretrain + 2 * finetune.seconds == pytest.approx(1800, 1e-3)
    assert finetune.iters == round(finetune.seconds / SPEED.finetune)


@pytest.mark.parametrize('records', [[], [dict(step=2, mAP=0.1)]])
def test_a_training_that_ends_before_its_first_record(tmp_path, records):
    steps = RunSteps(tmp_path, SimpleNamespace(), make(minutes=30))
    (tmp_path / 'steps').mkdir()
    (tmp_path / 'steps/retod.json').write_text('{"seconds": 9.0}')
    for number, record in enumerate(records):
        log = tmp_path / f'2026010{number}_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps(record))
    step = SimpleNamespace(name='retod', resumable=True, work_dir=tmp_path)
    before = steps.budget
    assert list(steps._learn(step)) == [step]
    assert steps.taken == dict(retod=9.0) and steps.budget == before


def test_what_took_longer_is_taken_from_the_trainings():
    budget = make(minutes=30)
    before = sum(map(budget.fixed, PARTS[:3]))
    as_planned = budget.pretrain(before).seconds
    late = budget.pretrain(before + 90).seconds
    assert late == pytest.approx(as_planned - 30)
    # however late it is, there is a training
    assert budget.pretrain(10**6).iters > 0
    assert budget.finetune(10**6).iters > 0


@pytest.mark.parametrize('length', [dict(minutes=30), dict(iters=100)])
def test_the_time_left_follows_the_measured_pace(length):
    steps = RunSteps(None, SimpleNamespace(), make(**length))
    plan = rows(steps)
    total = sum(plan.values()) + REPORT
    assert steps.left('weights-lite0', 1.0, 0.0) == pytest.approx(total)
    if 'minutes' in length:
        assert total + BEFORE == pytest.approx(1800, abs=1)
    steps.taken = dict.fromkeys(list(plan)[:3], 10.0)
    steps.lengths['pretrain'] = steps.budget.pretrain(30.0)
    expected, slow = (steps.left('pretrain', p, 0.25) for p in (1, 2))
    if 'minutes' in length:  # fewer iterations are made
        assert slow == pytest.approx(expected, abs=1)
    else:
        trained = 0.75 * SPEED.pretrain + 2 * SPEED.finetune
        tested = 2 * 50 * (5 * SPEED.plain + SPEED.tta)
        assert slow - expected == pytest.approx(100 * trained + tested)
    # a fine-tuning says nothing of the pretraining, which is over
    steps.taken['pretrain'] = 300.0
    steps.lengths['imagenet'] = Length(100)
    half, end = (steps.left('imagenet', 1.0, s) for s in (0.5, 1.0))
    assert half - end == pytest.approx(
        0.5 * rows(steps)['imagenet'] - 50 * SPEED.plain
    )
    steps.taken |= dict(imagenet=100.0, retod=100.0)
    steps.lengths['retod'] = Length(100)
    assert rows(steps)['retod'] == 100.0
    plain = steps.left('test-retod-plain', 2.0, 0.5)
    tested = steps.budget.fixed('plain'), steps.budget.fixed('tta')
    start_up = 15.0
    at_pace = [2 * seconds - start_up for seconds in tested]
    assert plain == pytest.approx(0.5 * at_pace[0] + at_pace[1] + REPORT)


def test_iterations_are_taken_as_they_are():
    budget = make(iters=70)
    assert budget.pretrain(0) == budget.finetune(10**6) == Length(70)


def test_too_few_minutes_name_how_many_would_do():
    with pytest.raises(ValueError, match='--minutes 3 is too short') as error:
        make(minutes=3).check()
    needed = int(str(error.value).split('give --minutes ')[1].split()[0])
    make(minutes=needed).check()
    with pytest.raises(ValueError):
        make(minutes=needed - 2).check()


def test_a_faster_machine_is_bounded_by_its_loading():
    slow, fast = Speed.of(2, cores=2), Speed.of(0.01, cores=16)
    assert fast.finetune > 0.01 and fast.regions < slow.regions / 4
    for part in vars(slow):
        assert getattr(slow, part) > getattr(fast, part)

import pytest

from mmfgl.recipes.budget import REPORT, Budget, Speed

SPEED = Speed.of(0.8, cores=2)
STEPS = ('lite0', 'lite2', 'regions', 'pretrain', 'imagenet', 'retod')
STEPS += ('plain', 'tta', 'plain', 'tta')


def make(**kwargs):
    return Budget(SPEED, photos=200, val=50, **kwargs)


def test_the_parts_add_up_to_the_minutes():
    budget = make(minutes=30)
    pretrain, finetune = budget.pretrain()[1], budget.finetune()[1]
    fixed = sum(map(budget.seconds_of, STEPS)) + REPORT
    assert pretrain == pytest.approx(finetune, abs=0.2)
    assert fixed + pretrain + 2 * finetune == pytest.approx(1800, abs=0.5)
    assert budget.finetune()[0] == round(finetune / SPEED.finetune)


def test_what_took_longer_is_taken_from_the_trainings():
    budget = make(minutes=30)
    before = sum(map(budget.seconds_of, STEPS[:3]))
    as_planned = budget.pretrain(before)[1]
    assert as_planned == budget.pretrain()[1]
    assert budget.pretrain(before + 90)[1] == pytest.approx(as_planned - 30)
    spent = before + budget.seconds_of('pretrain') + as_planned
    assert budget.finetune(spent)[1] == pytest.approx(as_planned, abs=0.2)
    # however late it is, there is a training
    assert budget.pretrain(10**6)[0] > 0
    assert budget.finetune(10**6)[0] > 0


def test_iterations_are_taken_as_they_are():
    budget = make(iters=70)
    assert budget.pretrain() == budget.finetune(10**6) == (70, None)


def test_too_few_minutes_name_how_many_would_do():
    with pytest.raises(ValueError, match='--minutes 3 is too short') as error:
        make(minutes=3)
    needed = int(str(error.value).split('give --minutes ')[1].split()[0])
    assert make(minutes=needed).left() > 0
    with pytest.raises(ValueError):
        make(minutes=needed - 2)


def test_a_faster_machine_is_bounded_by_its_loading():
    slow, fast = Speed.of(2, cores=2), Speed.of(0.01, cores=16)
    assert fast.finetune > 0.01 and fast.regions < slow.regions / 4
    for part in slow.to_dict():
        assert getattr(slow, part) > getattr(fast, part)

from types import SimpleNamespace

from torch.utils.data import DataLoader

from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal


class Numbers(list):
    """What MMPretrain's vis_scheduler.py has for a data loader."""

    dataset = None


def test_a_list_for_a_data_loader(toy):
    runner = toy(train_dataloader=Numbers(range(3)))
    assert not is_rehearsal(runner)  # in a test: nothing is trained
    runner.train_loop  # noqa: B018  (builds it)
    assert is_rehearsal(runner)


def test_a_run(toy):
    runner = toy()
    assert isinstance(runner.train_dataloader, DataLoader)
    assert not is_rehearsal(runner)
    assert not is_rehearsal(SimpleNamespace())

import cv2
import pytest
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.runner import Runner

from mmfgl.utils.checked_runner import (
    CheckedRunner,
    NamingPipeline,
    leaf_datasets,
)


class Images(BaseDataset):
    """Four images, on the last of which the pipeline fails."""

    def __init__(self, error=None, folder='', **kwargs):
        self.error, self.folder = error, folder
        # serializing collects garbage, which takes a second
        kwargs |= dict(pipeline=[self.fail], serialize_data=False)
        super().__init__(**kwargs)

    def load_data_list(self):
        return [dict(img_path=f'{self.folder}cam/{i}.jpg') for i in range(4)]

    def fail(self, data):
        if self.error and data['img_path'].endswith('3.jpg'):
            raise self.error
        return data['sample_idx']


def loader(dataset, **options):
    options = dict(batch_size=2, num_workers=0, drop_last=False) | options
    sampler = dict(type='DefaultSampler', shuffle=False)
    return CheckedRunner.build_dataloader(
        dict(dataset=dataset, sampler=sampler, **options)
    )


def test_options_of_workers_do_not_count_without_any():
    options = dict(persistent_workers=True, prefetch_factor=2)
    assert len(list(loader(Images(), **options))) == 2


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('error', [cv2.error('!'), KeyError('x')])
def test_errors_name_the_image(error, workers):
    dataset = Images(error, ann_file='train.json')
    # what a guard of images catches stays what it is
    kind = cv2.error if isinstance(error, cv2.error) else RuntimeError
    with pytest.raises(kind, match=r'image cam/3\.jpg') as raised:
        list(loader(dataset, num_workers=workers))
    text = str(raised.value)
    assert type(error).__name__ in text and 'leave it out of ' in text
    assert 'train.json' in text


@pytest.mark.parametrize('wrap', [ConcatDataset, RepeatDataset])
def test_data_sets_in_wrappers(wrap):
    part = Images(OSError())
    whole = RepeatDataset(part, 2) if wrap is RepeatDataset else wrap([part])
    with pytest.raises(OSError, match=r'cam/3\.jpg'):
        list(loader(whole))
    # not a second time
    built = loader(whole)
    again = CheckedRunner.build_dataloader(built)
    assert again is built
    (part,) = leaf_datasets(built.dataset)
    assert isinstance(part.pipeline, NamingPipeline)
    assert part.pipeline.transforms == [part.fail]


def test_what_to_do(tmp_path):
    (tmp_path / 'cam').mkdir()
    (tmp_path / 'cam/3.jpg').write_bytes(b'')
    folder = f'{tmp_path}/'
    for error, reason in [
        (cv2.error('!buf.empty()'), 'is empty'),
        (KeyError('mask'), 'without masks'),
    ]:
        with pytest.raises((RuntimeError, cv2.error), match=reason):
            list(loader(Images(error, folder)))
    thin = cv2.error("inv_scale_x > 0 in function 'resize'")
    with pytest.raises(cv2.error, match='so thin'):
        list(loader(Images(thin)))


def test_data_stay_the_same():
    dataset = Images()
    config = dict(dataset=dataset, batch_size=2, sampler=None)
    config['sampler'] = dict(type='DefaultSampler', shuffle=True)
    plain = list(Runner.build_dataloader(config, seed=1))
    assert plain == list(CheckedRunner.build_dataloader(config, seed=1))
    assert sorted(sum(plain, [])) == [0, 1, 2, 3]


def test_a_collate_function_gets_no_scope():
    # what MMEngine makes of a base that is read by its name, mmfgl::...
    collate = dict(type='default_collate', _scope_='mmfgl')
    dataset = Images()
    cfg = ConfigDict(batch_size=2, dataset=dataset, collate_fn=collate)
    cfg.sampler = dict(type='DefaultSampler', shuffle=False)
    loader = CheckedRunner.build_dataloader(cfg)
    assert next(iter(loader)).tolist() == [0, 1]


def test_loaders_are_checked():
    with pytest.raises(ValueError, match='at most 4'):
        loader(Images(), batch_size=5, drop_last=True)


def test_errors_with_a_name_stay():
    error = ValueError('cam/3.jpg: broken')
    error.path = 'cam/3.jpg'
    with pytest.raises(ValueError) as raised:
        list(loader(Images(error)))
    assert str(raised.value) == str(error)


def test_name_that_is_no_text():
    def fail(data):
        raise OSError

    with pytest.raises(OSError, match=r'image bad_\\udcff'):
        NamingPipeline(fail)(dict(img_path='bad_\udcff.jpg'))

"""Unlabelled images of a folder, a text list or a COCO JSON."""

import json
import logging
import os.path as osp
from collections.abc import Sequence

from mmengine.dataset import BaseDataset
from mmengine.fileio import get, list_dir_or_file
from mmengine.logging import print_log

from mmfgl.datasets.image_names import (
    ImageNames,
    find_images,
)
from mmfgl.datasets.image_reader import UnreadableImageError
from mmfgl.registry import DATASETS
from mmfgl.utils.names import IMG_EXTENSIONS


class _Paths(Sequence):
    """Paths of the images of a data set, each made when it is asked for."""

    def __init__(self, dataset: BaseDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> str:
        return self.dataset.get_data_info(row)['img_path']


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """Images without labels, for self-supervised pretraining.

    The images come from one of

    - a folder, searched with its sub-folders (``ann_file=''``); what is left
      out there is counted in a message;
    - a text file, one path a line, relative to the image folder or absolute;
      it may come from Windows (backslashes, byte order mark);
    - a COCO JSON, of which ``images`` is read and the labels are not.

    An image that cannot be read (:class:`UnreadableImageError`) is skipped:
    another one stands in for it and carries the skipped file's name and the
    reason in its ``skipped`` field, from which :class:`UnreadableImageHook`
    counts and reports.

    The names lie in one buffer (:class:`ImageNames`): 10 million of a text
    file are read in seconds.

    Args:
        max_refetch: How many unreadable images are tried, spread over the
            data set, before an error.
        serialize_data: See the parent; the names need it not.
        **kwargs: Arguments of :class:`mmengine.dataset.BaseDataset`.
            ``data_prefix`` is ``dict(img_path=)`` with the image folder,
            ``ann_file`` the text file or COCO JSON.

    Raises:
        FileNotFoundError: If the folder or the file does not exist.
        ValueError: If no image is found, a name is an address, or a region
            file of the pipeline holds no image or takes one for another.
    """

    METAINFO = dict(dataset_type='unlabelled_images')

    def __init__(
        self,
        max_refetch: int = 100,
        serialize_data: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(
            max_refetch=max_refetch, serialize_data=serialize_data, **kwargs
        )

    def load_data_list(self) -> ImageNames | list[dict]:
        """One ``dict(img_path=)`` an image, in sorted or listed order."""
        folder = self.data_prefix['img_path']
        if '://' not in folder and not osp.isdir(folder):
            raise FileNotFoundError(
                f'image folder {folder!r} does not exist: set data_root (or '
                'data_prefix.img_path) to the folder that holds your images'
            )
        left_out = ''
        if self.ann_file:
            names = self._read_list(folder)
            names.refuse_addresses(repr(self.ann_file))
        elif '://' in folder:  # a store that MMEngine knows
            found = list_dir_or_file(folder, list_dir=False, recursive=True)
            images = (n for n in found if n.lower().endswith(IMG_EXTENSIONS))
            names = ImageNames.of(folder, sorted(images))
        else:
            found = find_images(folder)
            names = ImageNames.of(folder, found.names)
            left_out = found.report()
        if not len(names):
            raise ValueError(
                f'no image found in {self.ann_file or folder!r}: looked for '
                f'{", ".join(IMG_EXTENSIONS)}'
                + (f', found {left_out}' if left_out else '')
            )
        if left_out:
            lost = found.dangling or found.closed
            print_log(
                f'{folder!r}: {len(names)} images; left out: {left_out}',
                logger='current',
                level=logging.WARNING if lost else logging.INFO,
            )
        # the parent's serialising empties a list
        return list(names) if self.serialize_data else names

    def full_init(self) -> None:
        """Read the names, and show them to the proposers of the pipeline."""
        if self._fully_initialized:
            return
        super().full_init()
        for step in self.pipeline.transforms:
            for proposer in getattr(step, 'proposers', ()):
                proposer.check_images(_Paths(self))

    def _read_list(self, folder: str) -> ImageNames:
        """Names listed in the text file or COCO JSON."""
        if '://' not in self.ann_file and not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'image list {self.ann_file!r} does not exist: set ann_file '
                'to a text file or a COCO JSON, or to an empty string to take '
                'every image of the folder'
            )
        content = get(self.ann_file)
        if not self.ann_file.lower().endswith('.json'):
            return ImageNames.of_lines(folder, content)
        try:
            images = json.loads(content)['images']
            files = (image['file_name'].replace('\\', '/') for image in images)
            return ImageNames.of(folder, files)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f'{self.ann_file!r} is not in COCO format: it needs a list '
                "'images' with a 'file_name' each"
            ) from error

    def __getitem__(self, idx: int) -> dict:
        """Run the pipeline on an image, or on another that is readable.

        The others are spread over the data set: where one file of a folder
        cannot be read, its neighbours often cannot either.

        Raises:
            RuntimeError: If ``max_refetch`` of them are unreadable.
        """
        if not self._fully_initialized:
            self.full_init()
        skipped: list[tuple[str, str]] = []
        tries = min(self.max_refetch, len(self))
        for step in range(tries):
            row = (idx + step * (len(self) // tries)) % len(self)
            info = self.get_data_info(row)
            try:
                return self.pipeline(dict(info, skipped=skipped))
            except UnreadableImageError as error:
                skipped.append((info['img_path'], error.reason))
        raise RuntimeError(
            f'{len(skipped)} images in a row could not be read, the last is '
            f'{skipped[-1][0]!r} ({skipped[-1][1]}): check the files'
        )

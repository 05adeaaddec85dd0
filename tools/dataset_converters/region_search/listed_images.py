"""The images of a region search."""

import json
import os
from collections.abc import Iterator

import numpy as np

from mmfgl.datasets import UnlabelledImages
from mmfgl.datasets.region_arrays import key_of
from mmfgl.utils.names import printable


class ListedImages:
    """Path, and ``id`` and ``file_name``, of each image.

    Args:
        folder: Of the images; names are relative to it, or absolute.
        ann_file: Text list or COCO JSON of the images, whose ids are kept;
            empty for all of the folder.

    Raises:
        ValueError: An image is listed twice, or has no id of its own.
    """

    def __init__(self, folder: str, ann_file: str = '') -> None:
        self.folder = folder
        self.data = UnlabelledImages(
            data_root='',
            data_prefix=dict(img_path=folder),
            ann_file=ann_file,
        )
        self.ids = range(1, len(self.data) + 1)
        if ann_file.lower().endswith('.json'):
            with open(ann_file, 'rb') as file:
                self.ids = [i.get('id') for i in json.load(file)['images']]
            if None in self.ids or len(set(self.ids)) < len(self.ids):
                raise ValueError(
                    f'{ann_file} does not give each image an id of its own'
                )
        if ann_file:
            self._refuse_twins(ann_file)

    def _refuse_twins(self, source: str) -> None:
        """Make sure that each image is listed once.

        Raises:
            ValueError: One is listed twice; names it.
        """
        # numbers stand for the names, of which there may be very many
        keys = (key_of(image['file_name']) for _, image in self)
        keys = np.fromiter(keys, np.uint64, len(self))
        ordered = np.sort(keys)
        twins = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twins):
            row = int(np.flatnonzero(keys == twins[0])[0])
            name = printable(self.data.get_data_info(row)['img_path'])
            raise ValueError(
                f'{source} lists {len(twins)} images again, {name!r} among '
                'them: list each once'
            )

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[tuple[str, dict]]:
        for index, number in enumerate(self.ids):
            path = self.data.get_data_info(index)['img_path']
            name = os.path.relpath(path, self.folder)
            if name.startswith('..'):  # elsewhere
                name = os.path.abspath(path)
            yield path, dict(id=number, file_name=name)

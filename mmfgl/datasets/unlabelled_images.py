"""Unlabelled images of a folder, a text list or a COCO JSON."""

import json
import os.path as osp

from mmengine.dataset import BaseDataset
from mmengine.fileio import get_text, list_dir_or_file, list_from_file

from mmfgl.registry import DATASETS

IMG_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """Images without labels, for self-supervised pretraining.

    The images come from one of

    - a folder, searched with its sub-folders (``ann_file=''``);
    - a text file, one path a line, relative to the image folder;
    - a COCO JSON, of which ``images`` is read and the labels are not.

    An image for which the pipeline returns ``None`` (see
    :class:`LoadUnlabelledImage`) is skipped: the next readable one stands in
    for it and carries the skipped file's name in its ``skipped`` field, from
    which :class:`UnreadableImageHook` counts and reports.

    Args:
        max_refetch: How many unreadable images in a row are skipped before
            an error.
        **kwargs: Arguments of :class:`mmengine.dataset.BaseDataset`.
            ``data_prefix`` is ``dict(img_path=)`` with the image folder,
            ``ann_file`` the text file or COCO JSON.

    Raises:
        FileNotFoundError: If the folder or the file does not exist.
        ValueError: If no image is found.
    """

    METAINFO = dict(dataset_type='unlabelled_images')

    def __init__(self, max_refetch: int = 100, **kwargs) -> None:
        super().__init__(max_refetch=max_refetch, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One ``dict(img_path=)`` an image, in sorted or listed order."""
        folder = self.data_prefix['img_path']
        if '://' not in folder and not osp.isdir(folder):
            raise FileNotFoundError(
                f'image folder {folder!r} does not exist: set data_root (or '
                'data_prefix.img_path) to the folder that holds your images'
            )
        if self.ann_file:
            names = self._read_list()
        else:
            found = list_dir_or_file(folder, list_dir=False, recursive=True)
            names = sorted(
                n for n in found if n.lower().endswith(IMG_EXTENSIONS)
            )
        if not names:
            raise ValueError(
                f'no image found in {self.ann_file or folder!r}: looked for '
                f'{", ".join(IMG_EXTENSIONS)}'
            )
        return [dict(img_path=osp.join(folder, name)) for name in names]

    def _read_list(self) -> list[str]:
        """Relative paths listed in the text file or COCO JSON."""
        if '://' not in self.ann_file and not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'image list {self.ann_file!r} does not exist: set ann_file '
                'to a text file or a COCO JSON, or to an empty string to take '
                'every image of the folder'
            )
        if not self.ann_file.endswith('.json'):
            lines = (line.strip() for line in list_from_file(self.ann_file))
            return [line for line in lines if line]
        try:
            images = json.loads(get_text(self.ann_file))['images']
            return [image['file_name'] for image in images]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{self.ann_file!r} is not in COCO format: it needs a list '
                "'images' with a 'file_name' each"
            ) from error

    def __getitem__(self, idx: int) -> dict:
        """Run the pipeline on an image, or on its nearest readable follower.

        Raises:
            RuntimeError: If ``max_refetch`` images in a row are unreadable.
        """
        if not self._fully_initialized:
            self.full_init()
        skipped: list[str] = []
        for step in range(min(self.max_refetch, len(self))):
            info = self.get_data_info((idx + step) % len(self))
            data = self.pipeline(dict(info, skipped=skipped))
            if data is not None:
                return data
            skipped.append(info['img_path'])
        raise RuntimeError(
            f'{len(skipped)} images in a row could not be read, the last is '
            f'{skipped[-1]!r}: check the files'
        )

"""Check an environment for mmfgl: versions, and mmcv's compiled ops.

Usage::

    python tools/check_install.py        # everything
    python tools/check_install.py --ops  # only torch and mmcv's ops
"""

import argparse
import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

OPENCV = 'opencv-contrib-python-headless'


def check_ops(device: str) -> None:
    """Compare NMS and RoIAlign with results worked out by hand.

    Raises:
        RuntimeError: An op gives a wrong result.
        ImportError: mmcv has no compiled ops.
    """
    import numpy as np
    import torch
    from mmcv.ops import RoIAlign, nms

    # (x1, y1, x2, y2) in pixels; IoU of the first two is 81 / 119 > 0.5.
    boxes = [[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]]
    # Through NumPy: torch 2.1 beside NumPy 2 fails here rather than later.
    boxes = torch.from_numpy(np.array(boxes, dtype=np.float32)).to(device)
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    _, keep = nms(boxes, scores, iou_threshold=0.5)
    if keep.tolist() != [0, 2]:
        raise RuntimeError(f'mmcv nms on {device} keeps {keep.tolist()}')

    # A ramp along x: each cell holds the x of its middle, half a pixel less.
    ramp = torch.arange(8.0, device=device).repeat(8, 1)[None, None]
    rois = torch.tensor([[0.0, 1.0, 1.0, 5.0, 5.0]], device=device)
    cells = RoIAlign((2, 2), spatial_scale=1.0, sampling_ratio=2)(ramp, rois)
    expected = torch.tensor([[1.5, 3.5], [1.5, 3.5]], device=device)
    if not torch.allclose(cells[0, 0], expected):
        raise RuntimeError(f'mmcv RoIAlign on {device} gives {cells.tolist()}')


def check_all_ops() -> None:
    """Check the ops on the CPU and, where there is one, on the GPU."""
    import torch

    check_ops('cpu')
    if not torch.cuda.is_available():
        print('mmcv ops: work on the CPU (no GPU visible)')
        return
    try:
        check_ops('cuda')
    except RuntimeError as error:
        raise RuntimeError(
            'mmcv was built without CUDA, but a GPU is visible: build it '
            'again where nvcc is on the PATH, with FORCE_CUDA=1 '
            f'({error})'
        ) from error
    print('mmcv ops: work on the CPU and on the GPU')


def check_packages() -> None:
    """Import the parents and mmfgl and print their versions.

    Raises:
        ImportError: A package is missing or of a wrong version.
    """
    print(f'python {platform.python_version()}')
    # mmfgl first: it explains what is wrong with a parent.
    names = ['mmfgl', 'torch', 'torchvision', 'numpy', 'cv2', 'mmengine']
    for name in [*names, 'mmcv', 'mmdet', 'mmpretrain', 'timm']:
        module = importlib.import_module(name)
        print(f'{name} {module.__version__}')
    check_transformers()


def check_transformers() -> None:
    """Import the parents' models, which fail beside transformers 5.

    Raises:
        RuntimeError: They do not import; says what to do.
    """
    try:
        importlib.import_module('mmdet.models')
        importlib.import_module('mmpretrain.models')
    except Exception as error:
        try:
            found = version('transformers')
        except PackageNotFoundError:
            raise error from None
        raise RuntimeError(
            "MMPretrain's models do not import beside transformers "
            f'{found}: pip uninstall -y transformers, or pip install '
            f"'transformers<5' ({type(error).__name__}: {error})"
        ) from error


def check_opencv() -> None:
    """Check that one distribution has written cv2, with selective search.

    Raises:
        RuntimeError: Several have, or the module lacks ximgproc.
    """
    import cv2

    folder = Path(cv2.__file__).resolve().parent
    found = {
        distribution.name
        for distribution in distributions()
        if distribution.name.startswith('opencv')
        and Path(distribution.locate_file('cv2')).resolve() == folder
    }
    if len(found) < 2 and hasattr(cv2, 'ximgproc'):
        return
    names = ' '.join(sorted(found))
    what = 'lacks selective search'
    if len(found) > 1:
        what = f'comes from {len(found)} distributions ({names})'
    raise RuntimeError(
        f'cv2 {what}: pip uninstall -y {names or "opencv"} && pip install '
        f'--no-deps {OPENCV}=={cv2.__version__}.*'
    )


def main() -> int:
    """Run the checks; the exit code is 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--ops', action='store_true', help="check torch and mmcv's ops only"
    )
    args = parser.parse_args()
    try:
        if not args.ops:
            check_packages()
            check_opencv()
        check_all_ops()
    except (ImportError, RuntimeError) as error:
        print(f'{type(error).__name__}: {error}', file=sys.stderr)
        if 'libGL' in str(error):
            print(
                f'This OpenCV needs a system library, {OPENCV} does not: pip '
                f'uninstall -y opencv-python; pip install --no-deps {OPENCV}',
                file=sys.stderr,
            )
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())

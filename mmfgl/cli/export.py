"""Write a detector as ONNX, for ONNX Runtime and others.

    mmfgl export DIR [--check IMAGES]
    mmfgl export CONFIG CHECKPOINT --out model.onnx [--check IMAGES]

DIR is the folder of an `mmfgl run`. Faster R-CNN and FGL Faster R-CNN can be
exported: batch 1, images of any size, candidates, NMS and box voting inside.
The input `image` is (1, 3, height, width), resized and normalised but not
padded; the outputs are `boxes` (N, 4) in its pixels, `scores` and `labels`.
The file says what its preprocessing and classes are;
tools/deploy/onnx_predict.py reads them and needs no PyTorch.

--check compares the file with PyTorch on images, prints how their detections
differ and keeps that as model.check.json. Needs the packages of
`pip install 'mmfgl[export]'`.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add('source', metavar='DIR|CONFIG', help='run folder, or config')
    add('checkpoint', nargs='?', help='checkpoint of the config')
    add(
        '--out',
        help='file to write (default: model.onnx, in DIR or beside '
        'the checkpoint)',
    )
    add(
        '--check',
        nargs='+',
        default=[],
        metavar='IMAGES',
        help='images, or folders of which 20 are taken',
    )
    trust = 'unpickle whatever the checkpoint holds, which can run any code'
    add('--trust-checkpoint', action='store_true', help=trust)


def main(args: argparse.Namespace) -> None:
    """Export."""
    from mmfgl.deploy import export

    export(
        args.source,
        args.checkpoint,
        out=args.out,
        check=args.check,
        trust=args.trust_checkpoint,
    )

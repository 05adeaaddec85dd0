"""What a file is that was given as a checkpoint, told by its content."""

from __future__ import annotations

import functools
import json
import os
import os.path as osp
import tarfile
import zipfile
import zlib

# torch.save before version 1.6 wrote this number, pickled, at the start
_LEGACY_TORCH = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_ADVICE = 'give a file that torch.save wrote, or a .safetensors file'
_UNPACK = 'unpack it and give the checkpoint in it'
_EXPORT = 'give the PyTorch weights that it was made from'

# first bytes: (what it is, what to do)
_MAGIC = {
    b'version https://git-lfs': (
        'a Git LFS pointer (the weights themselves are elsewhere)',
        'run `git lfs pull` in its repository',
    ),
    b'/annex/objects/': (
        'a git-annex pointer (the weights themselves are elsewhere)',
        'run `git annex get` in its repository',
    ),
    b'\x1f\x8b': ('a gzip archive', _UNPACK),
    b'BZh': ('a bzip2 archive', _UNPACK),
    b'\xfd7zXZ': ('an xz archive', _UNPACK),
    b'\x28\xb5\x2f\xfd': ('a zstd archive', _UNPACK),
    b'7z\xbc\xaf': ('a 7z archive', _UNPACK),
    b'Rar!': ('a rar archive', _UNPACK),
    b'\x89HDF\r\n': ('an HDF5 file (Keras, MATLAB)', _EXPORT),
    b'\x93NUMPY': ('a NumPy array (.npy)', _ADVICE),
    b'GGUF': ('a GGUF file', _EXPORT),
    b'\x89PNG': ('a PNG picture', _ADVICE),
    b'\xff\xd8\xff': ('a JPEG picture', _ADVICE),
    b'%PDF': ('a PDF document', _ADVICE),
}


class CheckpointError(ValueError):
    """A file is no checkpoint, is damaged, or is not safe to open."""


class DamagedCheckpointError(CheckpointError):
    """A complete checkpoint whose content has changed."""


def check_file(path: str, what: str, hint: str = '') -> None:
    """Raise ``FileNotFoundError`` unless a local file (or a URL) is there."""
    if '://' in path or osp.isfile(osp.expanduser(path)):
        return
    if osp.isdir(path):
        hint = hint or 'name a file in it'
        raise FileNotFoundError(f'The {what} is a folder: {path}\n  - {hint}')
    hint = hint and f'\n  - {hint}'
    raise FileNotFoundError(f'The {what} does not exist: {path}{hint}')


def check_checkpoint(
    path: str, what: str = 'checkpoint', hint: str = ''
) -> None:
    """Make sure that a checkpoint, unless remote, is one, and whole.

    It is read once, to compare the checksums that PyTorch's and safetensors'
    files carry; nothing in it is unpickled. The message says ``what`` it is
    for and, if it is missing, a ``hint``.

    Raises:
        FileNotFoundError: It does not exist.
        DamagedCheckpointError: It is whole, but not what was written.
        CheckpointError: It is something else, empty or cut off.
    """
    check_file(path, what, hint)
    if '://' in path:
        return
    path = osp.expanduser(path)
    kind, advice = identify(path)
    if kind in ('torch', 'legacy torch', 'safetensors'):
        if kind == 'torch' and (name := _damage(path)):
            raise DamagedCheckpointError(
                f'The {what} is damaged ({name} has another checksum than '
                f'when it was written): {path}\n'
                '  - do not trust this disk or copy: copy it again, or take '
                'an older one (--resume does, if you remove it)'
            )
        return
    if kind == 'incomplete':
        raise CheckpointError(
            f'The {what} is incomplete ({osp.getsize(path)} bytes): {path}\n'
            '  - its copying or saving was interrupted: take an older one of '
            'its folder, or copy it again'
        )
    raise CheckpointError(
        f'The {what} is no checkpoint but {kind}: {path}\n  - {advice}'
    )


def identify(path: str) -> tuple[str, str]:
    """Kind of a local file, and what to do if it is no checkpoint.

    Returns:
        ``'torch'``, ``'legacy torch'``, ``'safetensors'``, ``'incomplete'``,
        or words for any other kind.
    """
    size = osp.getsize(path)
    with open(path, 'rb') as file:
        head = file.read(1024)
    if not head:
        return 'incomplete', ''
    if head.startswith(b'PK\x03\x04'):
        return _kind_of_zip(path)
    if head.startswith(_LEGACY_TORCH):
        return 'legacy torch', ''
    if len(head) > 9 and head[8:9] == b'{':  # length, then a JSON header
        length = int.from_bytes(head[:8], 'little')
        if length < 2**32:
            return _kind_of_safetensors(path, length, size), ''
    for start, answer in _MAGIC.items():
        if head.startswith(start):
            return answer
    if not head.strip(b'\0'):
        return 'a file of zeros (its copying was interrupted)', 'copy it again'
    if head[257:262] == b'ustar' or tarfile.is_tarfile(path):
        return 'a tar archive', _UNPACK
    if head[:1] == b'\x08' and head[2:3] == b'\x12':
        return 'an ONNX graph', _EXPORT
    if head[4:8] == b'TFL3':
        return 'a TensorFlow Lite graph', _EXPORT
    if head[:1] == b'\x80' and head[1:2] in (b'\2', b'\3', b'\4', b'\5'):
        return _kind_of_pickle(path)
    return _kind_of_text(head)


def _kind_of_zip(path: str) -> tuple[str, str]:
    """Kind of a file that begins as a zip archive does."""
    # its table of contents comes last
    if not zipfile.is_zipfile(path):
        return 'incomplete', ''
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith('/constants.pkl') for name in names):
        return 'a TorchScript archive', (
            'give the state dict that it was traced from'
        )
    if any(name.endswith('/data.pkl') for name in names):
        return 'torch', ''
    if names and all(name.endswith('.npy') for name in names):
        return 'an archive of NumPy arrays (.npz)', _ADVICE
    some = ', '.join(names[:3]) or 'nothing'
    return f'a zip archive (with {some})', _UNPACK


def _kind_of_safetensors(path: str, length: int, size: int) -> str:
    """Whether all the tensors that the header lists are there."""
    with open(path, 'rb') as file:
        header = file.read(8 + length)[8:]
    try:
        entries = json.loads(header)
        ends = [
            value['data_offsets'][1]
            for name, value in entries.items()
            if name != '__metadata__'
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return 'incomplete'
    whole = 8 + length + max(ends, default=0) == size
    return 'safetensors' if whole else 'incomplete'


def _kind_of_pickle(path: str) -> tuple[str, str]:
    """A pickle that torch.save did not write: look for its author."""
    with open(path, 'rb') as file:
        content = file.read(2**16)
        file.seek(max(osp.getsize(path) - 2**16, 0))
        content += file.read()
    name = 'a Python pickle, not written by torch.save'
    marks = (b'matching_heuristics', b'__author__', b'blobs', b'bottom_up')
    if any(mark in content for mark in marks):
        name = 'a Detectron2 or Caffe2 pickle of NumPy arrays'
    return name, (
        'convert it once, if you trust its source: load it with pickle, '
        'rename its keys, and torch.save(dict(state_dict=...))'
    )


def _kind_of_text(head: bytes) -> tuple[str, str]:
    """Kind of anything else: web pages and error messages among it."""
    try:
        text = head.decode('utf-16' if head[:2] == b'\xff\xfe' else 'utf-8')
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not a character that is cut
            return 'a file of an unknown binary format', _ADVICE
        text = head[: error.start].decode()
    text = text.lstrip('\ufeff').strip()
    if any(ord(c) < 32 and c not in '\r\n\t\f\x1b' for c in text):
        return 'a file of an unknown binary format', _ADVICE
    again = 'download it again, by the direct link to the file'
    lower = text.lower()
    if lower.startswith('<!doctype html') or '<html' in lower:
        return 'an HTML page (of a failed download, or a log-in)', again
    short = ' '.join(text.split())[:60]
    if text.startswith('<'):
        return f'an XML text (an error message?): {short!r}', again
    if '"weight_map"' in text:
        return 'the index of a checkpoint in several parts', (
            'join the parts into one .safetensors file'
        )
    if text.startswith(('{', '[')):
        return f'a JSON text (an error message?): {short!r}', again
    return f'a text: {short!r}', again


def _damage(path: str) -> str | None:
    """First entry of an archive whose checksum is wrong."""
    stat = os.stat(path)
    return _test_zip(osp.realpath(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)  # a run opens its files more than once
def _test_zip(path: str, size: int, time: int) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
        RuntimeError,  # a method or an encryption that it does not have
    ) as error:
        return str(error) or 'its table of contents'

"""Names of very many images, in one buffer that all workers share."""

import os
import os.path as osp
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mmfgl.utils.names import IMG_EXTENSIONS, is_hidden, printable

CHUNK = 2**24  # bytes looked at together


class ImageNames(Sequence):
    """One ``dict(img_path=)`` an image, made when it is asked for.

    A name takes its bytes and 4 more (8 beyond 4 GB). Worker processes that
    are forked share both, since reading them writes no reference count.

    Args:
        folder: Goes before names that are not absolute.
        data: The names, encoded as the file system does.
        starts: (N,) uint32 or int64, first byte of each name.
        end: The byte that ends a name, a line break or zero. Blanks around a
            name of a line are dropped.
    """

    def __init__(
        self, folder: str, data: bytes, starts: np.ndarray, end: bytes
    ) -> None:
        self.folder, self.data, self.starts = folder, data, starts
        self.end = end

    @classmethod
    def of(cls, folder: str, names: Iterable[str]) -> 'ImageNames':
        """From single names, which may hold any byte but zero."""
        names = [os.fsencode(name) for name in names]
        lengths = np.fromiter(map(len, names), np.int64, len(names)) + 1
        data = b'\0'.join([*names, b''])
        return cls(folder, data, np.cumsum(lengths) - lengths, b'\0')

    @classmethod
    def of_lines(cls, folder: str, text: bytes) -> 'ImageNames':
        """From a text file of one name a line, made on whatever system."""
        text = text.removeprefix(b'\xef\xbb\xbf')
        if text[:2] in (b'\xff\xfe', b'\xfe\xff'):
            text = text.decode('utf-16').encode()
        if b'\\' in text:
            text = text.replace(b'\\', b'/')
        letters = np.frombuffer(text, np.uint8)
        dtype = np.uint32 if len(text) < 2**32 else np.int64
        starts = np.zeros(text.count(b'\n') + 1, dtype)
        done = 1
        for at in range(0, len(text), CHUNK):  # no temporary of the full size
            found = np.flatnonzero(letters[at : at + CHUNK] == ord('\n'))
            starts[done : done + len(found)] = found + (at + 1)
            done += len(found)
        if starts[-1] == len(text):
            starts = starts[:-1]
        # lines that begin with a blank may hold nothing else
        blank = np.flatnonzero(letters[starts] <= ord(' '))
        names = cls(folder, text, starts, b'\n')
        empty = [row for row in blank.tolist() if not names.name(row)]
        if empty:
            names.starts = np.delete(starts, empty)
        return names

    def name(self, row: int) -> bytes:
        """A name as it is listed."""
        start = self.starts[row].item()
        stop = self.data.find(self.end, start)
        name = self.data[start : None if stop < 0 else stop]
        return name.strip() if self.end == b'\n' else name

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int | slice) -> 'dict | ImageNames':
        if isinstance(row, slice):
            starts = self.starts[row]
            return ImageNames(self.folder, self.data, starts, self.end)
        name = os.fsdecode(self.name(row))
        return dict(img_path=osp.join(self.folder, name))

    def refuse_addresses(self, source: str) -> None:
        """Make sure that names are files, not addresses.

        Raises:
            ValueError: One holds ``://``; says what is wanted.
        """
        place = self.data.find(b'://')
        if place >= 0:
            row = int(np.searchsorted(self.starts, place, 'right')) - 1
            name = os.fsdecode(self.name(row))
            raise ValueError(
                f'{source} holds the address {name!r} (image {row + 1} of '
                f'{len(self)}): it must hold paths, relative to the image '
                'folder or absolute; download the images first'
            )


@dataclass
class FoundImages:
    """What a folder and its sub-folders hold.

    Attributes:
        names: Sorted paths of image files, relative to the folder.
        ignored: Number of other files by their extension.
        dangling: Links to nothing.
        closed: Folders that may not be read.
    """

    names: list[str] = field(default_factory=list)
    ignored: Counter = field(default_factory=Counter)
    dangling: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def report(self) -> str:
        """What was left out, for a message; empty if nothing was."""
        parts = []
        if self.ignored:
            most = self.ignored.most_common(10)
            kinds = ', '.join(f'{n} {printable(kind)}' for kind, n in most)
            parts.append(f'{self.ignored.total()} other files ({kinds})')
        for what, paths in (
            ('links to nothing', self.dangling),
            ('folders that may not be read', self.closed),
        ):
            if paths:
                some = ', '.join(map(printable, sorted(paths)[:5]))
                more = ', ...' if len(paths) > 5 else ''
                parts.append(f'{len(paths)} {what} ({some}{more})')
        return '; '.join(parts)


def find_images(folder: str) -> FoundImages:
    """Search a folder and its sub-folders; links are followed, once.

    Hidden files and folders, and those of a system (a Mac's archive, a
    network drive's thumbnails), are left out without being counted. What is
    a file or a folder is asked of the file system, not of the name.
    """
    found, stack, seen = FoundImages(), [''], set()
    while stack:
        inner = stack.pop()
        path = osp.join(folder, inner)
        try:
            info = os.stat(path)
            entries = list(os.scandir(path))
        except OSError:
            found.closed.append(inner or folder)
            continue
        if (info.st_dev, info.st_ino) in seen:  # a link to a parent
            continue
        seen.add((info.st_dev, info.st_ino))
        for entry in entries:
            name = osp.join(inner, entry.name)
            if is_hidden(entry.name):
                continue
            if _is(entry.is_dir):
                stack.append(name)
            elif not _is(entry.is_file):
                if entry.is_symlink():
                    found.dangling.append(name)
            elif name.lower().endswith(IMG_EXTENSIONS):
                found.names.append(name)
            else:
                kind = osp.splitext(name)[1].lower()
                found.ignored[kind or 'without extension'] += 1
    found.names.sort()
    return found


def _is(question) -> bool:
    """Answer of a directory entry; a link that leads round in a circle: no."""
    try:
        return question()
    except OSError:
        return False

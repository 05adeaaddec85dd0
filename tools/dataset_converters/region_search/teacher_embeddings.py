"""What a region teacher sees in regions, kept on disk, and its reduction.

Shape shorthand: N regions, D numbers a region, E embedding width.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from mmfgl.datasets.image_reader import decode_reduced, read_bytes
from mmfgl.datasets.region_arrays import GrowingArray, chunks_of
from mmfgl.models.selfsup import RegionTeacher
from mmfgl.utils.atomic_files import atomic_file, write_atomically
from region_search.cache import ImageProposals

MAX_FIT = 100_000  # regions that the reduction is fitted to


class TeacherCache:
    """Describes the regions of images by a teacher and keeps the result.

    An entry is found by the image's bytes, the boxes, and all that decides
    what the teacher says: its name and config, the hash of its weights, their
    licence and the preprocessing. A killed run goes on where it stopped.

    Args:
        teacher: The teacher.
        folder: Folder of the cache.
    """

    def __init__(self, teacher: RegionTeacher, folder: str) -> None:
        facts = dict(teacher.meta, config=teacher.config)
        text = json.dumps(facts, sort_keys=True).encode()
        self.teacher = teacher
        self.folder = Path(folder) / f'teacher-{_sha1(text)[:16]}'
        write_atomically(text, self.folder / 'teacher.json')

    def __call__(self, path: str, regions: ImageProposals) -> np.ndarray:
        """(N, D) float16 embeddings of the regions of an image file.

        Raises:
            UnreadableImageError: If the image, which was read before, no
                longer can be.
        """
        key = _sha1(regions.key.encode() + regions.boxes.tobytes())
        entry = self.folder / key[:2] / f'{key}.npy'
        shape = len(regions.boxes), self.teacher.channels
        try:
            found = np.load(entry)
            if found.shape == shape:
                return found
        except (OSError, ValueError, EOFError):
            pass  # not there, or damaged
        img, shape = decode_reduced(read_bytes(path), path)
        zoom = np.array(img.shape[1::-1] * 2) / (shape[::-1] * 2)
        found = self.teacher.embed(img, regions.boxes * zoom)
        found = found.astype(np.float16)
        with atomic_file(entry) as file:
            np.save(file, found)
        return found


def reduce_embeddings(
    features: np.ndarray, width: int, path: Path
) -> np.ndarray:
    """Standardise, rotate to the main components, give length 1.

    The components are fitted to a random :data:`MAX_FIT` of the regions; only
    these and one chunk are in memory.

    Args:
        features: (N, D) of all regions, memory-mapped.
        width: E. Where there are fewer components, the rest is zero.
        path: File for the result.

    Returns:
        (N, E) float16, memory-mapped.
    """
    from sklearn.decomposition import PCA

    out = GrowingArray(path, np.float16, (width,))
    if len(features):
        sample = sample_rows(features, MAX_FIT)
        mean, std = sample.mean(0), sample.std(0) + 1e-6
        count = min(width, *sample.shape)
        pca = PCA(count, random_state=0).fit((sample - mean) / std)
        for rows in chunks_of(len(features)):
            chunk = (features[rows].astype(np.float32) - mean) / std
            chunk = pca.transform(chunk)
            norms = np.linalg.norm(chunk, axis=1, keepdims=True)
            chunk = chunk / (norms + 1e-9)
            out.append(np.pad(chunk, ((0, 0), (0, width - count))))
    return out.read()


def cluster_rows(features: np.ndarray, count: int, path: Path) -> np.ndarray:
    """K-means clusters of all rows, fitted to a random :data:`MAX_FIT`.

    Args:
        features: (N, D), memory-mapped.
        count: Number of clusters.
        path: File for the result.

    Returns:
        (N,) int32 clusters, memory-mapped.

    Raises:
        ValueError: If there are fewer rows than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(features) < count:
        raise ValueError(
            f'{len(features)} regions cannot make {count} clusters'
        )
    kmeans = MiniBatchKMeans(count, random_state=0, n_init=3)
    kmeans.fit(sample_rows(features, MAX_FIT))
    out = GrowingArray(path, np.int32)
    for rows in chunks_of(len(features)):
        out.append(kmeans.predict(features[rows].astype(np.float32)))
    return out.read()


def sample_rows(features: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` random rows, (n, D) float32, in order."""
    rows = np.arange(len(features))
    if len(rows) > count:
        rng = np.random.default_rng(0)
        rows = np.sort(rng.choice(len(rows), count, replace=False))
    return np.asarray(features[rows], np.float32)


def _sha1(data: bytes) -> str:
    """SHA-1 in hexadecimal digits."""
    return hashlib.sha1(data).hexdigest()

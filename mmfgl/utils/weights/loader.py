"""Let MMEngine read every checkpoint of a run through :func:`safe_load`."""

from __future__ import annotations

import io
import os
import os.path as osp
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from .kinds import CheckpointError
from .safe_load import _RefusedError, safe_load, unpickle

_STORAGE = (r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


def use_safe_loading(trust: bool = False) -> None:
    """Read all checkpoints of this process safely, whoever asks for them.

    ``load_from``, ``init_cfg``, ``--resume`` and the parents' functions that
    build a model all read by MMEngine's ``CheckpointLoader``, whose public
    registry of schemes takes these loaders. Tools call this before they
    build anything; importing mmfgl does not. It also lets MMEngine 0.10.7
    read its own checkpoints under PyTorch >= 2.6, and safetensors.

    Args:
        trust: Unpickle what is no plain checkpoint too (--trust-checkpoint).
    """

    def load_from_local(filename: str, map_location: Any = None) -> dict:
        return safe_load(filename, trust, map_location or 'cpu')

    def load_from_url(filename: str, map_location: Any = None) -> dict:
        return safe_load(download(filename), trust, map_location or 'cpu')

    def load_from_mmcls(filename: str, map_location: Any = None) -> dict:
        checkpoint = load_from_url(filename, map_location)
        state = checkpoint.get('state_dict', checkpoint)
        prefix = 'backbone.'
        return dict(
            state_dict={
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix)
            }
        )

    def load_from_storage(filename: str, map_location: Any = None) -> dict:
        content = get_file_backend(filename).get(filename)
        try:
            return unpickle(io.BytesIO(content), trust, map_location or 'cpu')
        except _RefusedError as error:
            raise CheckpointError(
                f'{filename} was not loaded: it asks for {error}; if you '
                'trust its source, pass --trust-checkpoint'
            ) from None

    register = CheckpointLoader.register_scheme
    register('', load_from_local, force=True)
    register(['http://', 'https://', *_HUBS], load_from_url, force=True)
    register('mmcls://', load_from_mmcls, force=True)
    register(list(_STORAGE), load_from_storage, force=True)
    if not trust:
        register('pavi://', _refuse_pavi, force=True)


def _refuse_pavi(filename: str, map_location: Any = None) -> dict:
    raise CheckpointError(
        f'{filename} was not loaded, since files of pavi can not be checked: '
        'download it, or, if you trust its source, pass --trust-checkpoint'
    )


def _openmmlab(name: str) -> str:
    url = get_external_models()[get_deprecated_model_names().get(name, name)]
    if '://' in url:
        return url
    # the user's own open_mmlab.json may name files beside it
    cache = os.environ.get('XDG_CACHE_HOME', '~/.cache')
    home = os.environ.get('MMENGINE_HOME', osp.join(cache, 'mmengine'))
    return osp.join(osp.expanduser(home), url)


_HUBS = {
    'torchvision://': lambda name: get_torchvision_models()[name],
    'modelzoo://': lambda name: get_torchvision_models()[name],
    'open-mmlab://': _openmmlab,
    'openmmlab://': _openmmlab,
    'mmcls://': lambda name: get_mmcls_models()[name],
}


def download(name: str) -> str:
    """Local file of a URL or of a name like ``torchvision://resnet50``.

    It is kept where PyTorch and MMEngine keep theirs. The main process goes
    first, others only where they do not see its file.

    Raises:
        CheckpointError: There are no such weights, or no network.
    """
    given = name
    for prefix, resolve in _HUBS.items():
        if name.startswith(prefix):
            try:
                name = resolve(name.removeprefix(prefix))
            except KeyError:
                raise CheckpointError(
                    f'there are no weights of the name {given}'
                ) from None
    if '://' not in name:
        return name
    folder = osp.join(torch.hub.get_dir(), 'checkpoints')
    path = osp.join(folder, osp.basename(urlparse(name).path))
    for turn in (is_main_process(), not is_main_process()):
        if turn and not osp.isfile(path):
            os.makedirs(folder, exist_ok=True)
            try:
                torch.hub.download_url_to_file(name, path, progress=False)
            except OSError as error:
                raise CheckpointError(
                    f'{given} could not be downloaded ({error}): get the file '
                    'where there is a network, and give its path'
                ) from error
        barrier()
    return path

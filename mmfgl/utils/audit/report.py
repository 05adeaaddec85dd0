"""What an audit of an annotation file has found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mmfgl.utils.audit.headers import Header

EXAMPLES = 3
LEVELS = ('error', 'warning', 'repair', 'note')


@dataclass
class Finding:
    """Things of one kind: how many, and the names of the first of them."""

    level: str  # one of LEVELS
    text: str  # what they are, in the plural, ': ' and what follows from it
    number: int = 0  # 0: about the file as a whole
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line, e.g. 'annotations without id: 2; numbered (...)'."""
        if not self.number:
            return self.text
        what, _, follows = self.text.partition(': ')
        follows = follows and f'; {follows}'
        more = '; ...' if self.number > len(self.examples) else ''
        named = f' ({"; ".join(self.examples)}{more})' * bool(self.examples)
        return f'{what}: {self.number}{follows}{named}'


class AuditReport:
    """Findings about one annotation file.

    Levels: an *error* would train or test on wrong data, a *warning* is
    legal but odd, a *repair* was computed and needs no hand, a *note* is
    only told by the tool.

    Args:
        path: The annotation file.

    Attributes:
        objects: Number of objects ``'used'``, and left out by reason.
        images: Image entries by id.
        headers: Headers of the image files by path.
        odd: (reason, annotation) of the first boxes worth a look.
    """

    MAX_ODD = 200

    def __init__(self, path: str) -> None:
        self.path = path
        self.objects: Counter[str] = Counter()
        self.images: dict[Any, dict] = {}
        self.headers: dict[str, Header] = {}
        self.left_out_images: dict[str, int] = {}
        self.odd: list[tuple[str, dict]] = []
        self._found: dict[tuple[str, str], Finding] = {}

    def add(self, level: str, text: str, item: Any = '') -> None:
        """Count one thing; the first few are named in the message.

        Args:
            level: One of ``LEVELS``.
            text: Its kind.
            item: Text, an image or an annotation.
        """
        key = (level, text)
        if key not in self._found:
            self._found[key] = Finding(level, text)
        finding = self._found[key]
        finding.number += 1
        limit = EXAMPLES if level in ('error', 'warning') else 1
        if item != '' and len(finding.examples) < limit:
            finding.examples.append(self._name(item))

    def tell(self, level: str, text: str) -> None:
        """Say something about the file as a whole."""
        self._found[level, text] = Finding(level, text)

    def findings(self, *levels: str) -> list[Finding]:
        """Findings of these levels (default: all), the gravest first."""
        levels = levels or LEVELS
        found = [f for f in self._found.values() if f.level in levels]
        return sorted(found, key=lambda f: LEVELS.index(f.level))

    def summary(self) -> str:
        """One line about the objects."""
        total = sum(self.objects.values())
        left_out = self.left_out()
        return (
            f'{self.path}: {self.objects["used"]} of {total} objects in '
            f'{len(self.images)} images are used'
            + (f'; left out: {left_out}' if left_out else '')
        )

    def left_out(self) -> str:
        """Numbers of objects and images that are left out, and why."""
        parts = [
            f'{number} {reason}'
            for reason, number in self.objects.most_common()
            if reason != 'used'
        ]
        parts += [
            f'{number} images {reason}'
            for reason, number in self.left_out_images.items()
        ]
        return ', '.join(parts)

    def failure(self) -> str:
        """Message of the errors, one line each; empty if there are none."""
        errors = self.findings('error')
        if not errors:
            return ''
        lines = ''.join(f'\n  - {error}' for error in errors)
        return f'{self.path} cannot be used as it is:{lines}'

    def _name(self, item: Any) -> str:
        if not isinstance(item, dict):
            return str(item)
        if 'bbox' in item or 'image_id' in item or 'category_id' in item:
            image = item.get('image_id')
            try:
                where = repr(self.images[image]['file_name'])
            except (KeyError, TypeError):
                where = f'image {image!r}'
            name = f'annotation {item["id"]!r}' if 'id' in item else 'one'
            return f'{name} of {where}, bbox {item.get("bbox")}'
        if 'file_name' in item:
            return f'{item["file_name"]!r}, id {item.get("id")!r}'
        return str(item)[:100]

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
    text: str  # plural, with what it means or what was done
    number: int = 0  # 0: about the file as a whole
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line, e.g. '2 annotations without id: numbered (...)'."""
        more = ', ...' if self.number > len(self.examples) else ''
        named = f' ({"; ".join(self.examples)}{more})' * bool(self.examples)
        number = f'{self.number} ' if self.number else ''
        return f'{number}{self.text}{named}'


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
        if item != '' and len(finding.examples) < EXAMPLES:
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
        left_out = ''.join(
            f', {number} left out: {reason}'
            for reason, number in self.objects.most_common()
            if reason != 'used'
        )
        return (
            f'{self.path}: {self.objects["used"]} of {total} objects in '
            f'{len(self.images)} images are used{left_out}'
        )

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

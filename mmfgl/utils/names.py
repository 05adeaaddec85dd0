"""File names: which are images, and how they stand in messages."""

IMG_EXTENSIONS = (
    *('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.tif', '.tiff', '.webp'),
    '.gif',
)
# of archives made on a Mac, of network drives (thumbnails, deleted files)
SYSTEM_FOLDERS = ('__MACOSX', '@eaDir', '#recycle', '$RECYCLE.BIN')


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or kept by a system for itself."""
    return name.startswith('.') or name in SYSTEM_FOLDERS


def printable(name: str) -> str:
    """A name that every log can hold: bytes that are no UTF-8 are escaped."""
    return name.encode('utf-8', 'backslashreplace').decode()


def without_formulas(name: str) -> str:
    """A name as matplotlib draws it letter by letter, ``$`` included."""
    return name.replace('$', r'\$')

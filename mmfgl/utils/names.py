"""File names: which are images, and how they stand in messages."""

IMG_EXTENSIONS = (
    *('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.tif', '.tiff', '.webp'),
    '.gif',
)


def printable(name: str) -> str:
    """A name that every log can hold: bytes that are no UTF-8 are escaped."""
    return name.encode('utf-8', 'backslashreplace').decode()

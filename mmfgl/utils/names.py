"""File names in messages."""


def printable(name: str) -> str:
    """A name that every log can hold: bytes that are no UTF-8 are escaped."""
    return name.encode('utf-8', 'backslashreplace').decode()

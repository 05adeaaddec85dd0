"""Numbers that live on the device, known on the host too."""

from torch import Tensor


class HostValue:
    """The value of a buffer of one number, without asking the GPU for it.

    State that a checkpoint has to hold lives in buffers, but the host that
    reads one waits until the GPU has come to it. The value is therefore
    remembered, and read again only if something else has written the buffer
    or put another in its place: a checkpoint that was loaded, a step that was
    taken back, a model that moved.
    """

    def __init__(self) -> None:
        self._buffer: Tensor | None = None
        self._version = -1
        self._value: bool | int | float = 0

    def get(self, buffer: Tensor) -> bool | int | float:
        """The buffer's value."""
        if buffer is not self._buffer or buffer._version != self._version:
            self._remember(buffer, buffer.item())
        return self._value

    def set(self, buffer: Tensor, value: bool | int | float) -> None:
        """Write the buffer, in place."""
        buffer.fill_(value)
        self._remember(buffer, value)

    def _remember(self, buffer: Tensor, value: bool | int | float) -> None:
        self._buffer, self._version = buffer, buffer._version
        self._value = value

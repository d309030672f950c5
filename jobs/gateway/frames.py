"""Server-sent events out of blocks of bytes, as they arrive. Pure."""

from __future__ import annotations

# An event that never ends is somebody's mistake, and would fill the memory.
MAX_EVENT_BYTES = 32 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class Frames:
    """The data of each event that blocks complete, whatever cuts and line ends they have.

    Lines end with LF, CR or CRLF; comments and other fields than data are left out, several lines
    of data are joined by LF, and an event without data is none.
    """

    __slots__ = ("_data", "_ends_in_cr", "_is_first", "_rest", "_rest_bytes")

    def __init__(self) -> None:
        # What has come of a line that is not complete, in the pieces in which it came.
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._data: list[bytes] = []
        self._ends_in_cr = False
        self._is_first = True

    def feed(self, block: bytes) -> list[bytes]:
        """The events that this block completes. Raises ValueError for one that is too long."""
        if self._ends_in_cr and block:
            self._ends_in_cr = False
            block = block.removeprefix(b"\n")
        end = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        if not end:
            self._keep(block)
            return []
        self._ends_in_cr = block.endswith(b"\r")
        whole = b"".join((*self._rest, block[:end])) if self._rest else block[:end]
        self._rest, self._rest_bytes = [], 0
        if end < len(block):
            self._keep(block[end:])
        if self._is_first:
            self._is_first = False
            whole = whole.removeprefix(_BOM)
        return self._events(whole)

    def end(self) -> list[bytes]:
        """What is left when nothing more comes: an event whose last line was not ended."""
        return self.feed(b"\n\n")

    def _events(self, lines: bytes) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines.splitlines():
            if line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line:
                if data:
                    event = data[0] if len(data) == 1 else b"\n".join(data)
                    data.clear()
                    if event:
                        events.append(event)
            elif line == b"data":
                data.append(b"")
        return events

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._rest.append(piece)
            self._rest_bytes += len(piece)
            if self._rest_bytes > MAX_EVENT_BYTES:
                raise ValueError("an event without an end")

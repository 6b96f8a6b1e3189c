"""Headers of GIF files: a walk from block to block, up to the second picture."""

from dataclasses import dataclass

from forensic_cli.headers.base import Header, Unreadable, bad_header, make_header, truncated

_EXTENSION, _PICTURE = 0x21, 0x2C
_CONTROL = 0xF9  # the extension that says whether the next picture has a transparent colour
_MOST_BLOCKS = 1 << 20
"""265 MB in full ones; a file of blocks of one byte must not take minutes."""


class _EndsEarlyError(Exception):
    pass


@dataclass
class _Walk:
    data: bytes
    place: int
    blocks: int = 0
    pictures: int = 0
    transparent: bool = False
    """In the first picture."""

    def byte(self, ahead: int = 0) -> int:
        if self.place + ahead >= len(self.data):
            raise _EndsEarlyError
        return self.data[self.place + ahead]

    def skip_blocks(self) -> None:
        """Go behind a list of sub-blocks."""
        while (size := self.byte()) and self.blocks < _MOST_BLOCKS:
            self.place += 1 + size
            self.blocks += 1
        self.place += 1

    def step(self) -> bool:
        """Go behind one extension or picture; False where neither of them begins."""
        kind = self.byte()
        self.blocks += 1
        if kind == _EXTENSION:
            if self.byte(1) == _CONTROL and self.pictures == 0:
                self.transparent = bool(self.byte(3) & 1)
            self.place += 2
        elif kind == _PICTURE:
            self.pictures += 1
            self.place += 11 + _colours(self.byte(9))
        else:
            return False
        self.skip_blocks()
        return True


def inspect_gif(data: bytes) -> Header | Unreadable:
    """Read the header of a GIF."""
    size = (int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))
    if len(data) < 13:
        return truncated(name="GIF")
    if not all(size):
        return bad_header("GIF")
    walk = _Walk(data, 13 + _colours(data[10]))
    cut = False
    try:
        while walk.pictures < 2 and walk.blocks < _MOST_BLOCKS and walk.step():
            pass
    except _EndsEarlyError:
        cut = True
    changes = {"alpha_dropped": walk.transparent, "first_frame_only": walk.pictures > 1, "palette": True}
    header = make_header("GIF", size, changes)
    if walk.blocks >= _MOST_BLOCKS:
        return Unreadable("damaged", f"the GIF has more than {_MOST_BLOCKS} blocks before its second picture", header)
    return truncated(header) if cut else header


def _colours(flags: int) -> int:
    """Return the bytes of the colour table that a flag byte announces."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

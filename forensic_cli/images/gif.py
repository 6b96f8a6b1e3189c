"""Headers of GIF files: a walk from block to block, up to the end of the file."""

from dataclasses import dataclass, field

from forensic_cli.images.header import Header, Unreadable, bad_header, make_header, truncated

_EXTENSION, _PICTURE, _END = 0x21, 0x2C, 0x3B
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
    right: int = 0
    """Where the first picture ends, perhaps beyond the canvas."""
    bottom: int = 0
    """As `right`, downwards."""
    needed: list[tuple[int, int]] = field(default_factory=list)
    """Where the parts begin and end that the first picture needs."""

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
        """Go behind one extension or picture, or a byte of neither before the first picture; False where all ends."""
        start, kind, is_needed = self.place, self.byte(), False
        self.blocks += 1
        if kind == _EXTENSION:
            is_needed = self.byte(1) == _CONTROL and self.pictures == 0
            if is_needed:
                self.transparent = bool(self.byte(3) & 1)
            self.place += 2
        elif kind == _PICTURE:
            is_needed = self.pictures == 0
            if is_needed:
                left, top, width, height = (self.byte(i) | self.byte(i + 1) << 8 for i in (1, 3, 5, 7))
                self.right, self.bottom = left + width, top + height
            self.pictures += 1
            self.place += 11 + _colours(self.byte(9))
        else:
            self.place += 1
            return kind != _END and self.pictures == 0
        self.skip_blocks()
        if is_needed:
            self.needed.append((start, self.place))
        return True


def inspect_gif(data: bytes) -> Header | Unreadable:
    """Read the header of a GIF."""
    size = (int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))
    if len(data) < 13:
        return truncated(name="GIF")
    if not all(size):
        return bad_header("GIF")
    walk, cut = _walk(data)
    changes = {"alpha_dropped": walk.transparent, "first_frame_only": walk.pictures > 1, "palette": True}
    # Pillow makes room for a picture that is larger than its canvas
    header = make_header("GIF", (max(size[0], walk.right), max(size[1], walk.bottom)), changes)
    if walk.blocks >= _MOST_BLOCKS and walk.pictures < 2:
        return Unreadable("damaged", f"the GIF has more than {_MOST_BLOCKS} blocks before its second picture", header)
    if cut:
        return truncated(header)
    return header if walk.pictures else Unreadable("damaged", "the GIF has no picture", header)


def first_picture(data: bytes) -> bytes:
    """Return a GIF of nothing but the first picture: what stands around it may hide other pictures of any size."""
    walk, _ = _walk(data)
    return data[: 13 + _colours(data[10])] + b"".join(data[start:end] for start, end in walk.needed) + b";"


def _walk(data: bytes) -> tuple[_Walk, bool]:
    """Return what the blocks say, and whether the file ends before they do."""
    walk = _Walk(data, 13 + _colours(data[10]))
    try:
        while walk.blocks < _MOST_BLOCKS and walk.step():
            pass
    except _EndsEarlyError:
        return walk, True
    return walk, False


def _colours(flags: int) -> int:
    """Return the bytes of the colour table that a flag byte announces."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

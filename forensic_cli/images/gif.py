"""GIF files: the header from one walk from block to block, up to the end of the file.

Source: GIF89a specification, sections 18 (screen descriptor), 20 (image descriptor) and 23 (graphic control extension).
"""

from dataclasses import dataclass, field

from forensic_cli.images.header import Header, Inspection, Unreadable, make_header

_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL = 0xF9  # the extension that says whether the next frame has a transparent colour
_MOST_BLOCKS = 1 << 20
"""265 MB in full ones; a file of blocks of one byte must not take minutes."""


@dataclass
class _Walk:
    data: bytes
    place: int
    blocks: int = 0
    frames: int = 0
    is_transparent: bool = False
    """The first frame."""
    right: int = 0
    """Where the first frame ends, in pixels, perhaps beyond the canvas."""
    bottom: int = 0
    """As `right`, downwards."""
    essential: list[tuple[int, int]] = field(default_factory=list)
    """Where the parts begin and end that the first frame needs."""

    # Both methods raise IndexError where the file ends before the blocks do

    def skip_sub_blocks(self) -> None:
        """Go past a list of sub-blocks: each a length and so many bytes, the last one of length 0."""
        while (size := self.data[self.place]) and self.blocks < _MOST_BLOCKS:
            self.place += 1 + size
            self.blocks += 1
        self.place += 1

    def step(self) -> bool:
        """Go past one extension or frame, or a stray byte before the first frame; False at the end."""
        data, start, is_essential = self.data, self.place, False
        kind = data[start]
        self.blocks += 1
        if kind == _EXTENSION:
            is_essential = data[start + 1] == _CONTROL and self.frames == 0
            if is_essential:
                self.is_transparent = bool(data[start + 3] & 1)
            self.place += 2
        elif kind == _IMAGE:
            is_essential = self.frames == 0
            if is_essential:
                left, top, width, height = (data[i] | data[i + 1] << 8 for i in range(start + 1, start + 9, 2))
                self.right, self.bottom = left + width, top + height
            self.frames += 1
            self.place += 11 + _colour_table(data[start + 9])
        else:
            self.place += 1
            return kind != _END and self.frames == 0
        self.skip_sub_blocks()
        if is_essential:
            self.essential.append((start, self.place))
        return True


def inspect_gif(data: bytes) -> Inspection:
    """Read the header of a GIF. What stands around its first frame may hide other frames of any size."""
    if len(data) < 13:
        return Inspection(Unreadable.truncated(None, "GIF"))
    width, height = (int.from_bytes(data[i : i + 2], "little") for i in (6, 8))
    if not width or not height:
        return Inspection(Unreadable.bad_header("GIF"))
    walk, is_cut = _walk(data)
    changes = {"alpha_dropped": walk.is_transparent, "first_frame_only": walk.frames > 1, "palette": True}
    # Pillow makes room for a frame that is larger than its canvas
    header = make_header("GIF", (max(width, walk.right), max(height, walk.bottom)), changes)
    return Inspection(_result(header, walk, is_cut), essential=((0, 13 + _colour_table(data[10])), *walk.essential))


def _result(header: Header, walk: _Walk, is_cut: bool) -> Header | Unreadable:
    if walk.blocks >= _MOST_BLOCKS and walk.frames < 2:
        return Unreadable("damaged", f"the GIF has more than {_MOST_BLOCKS} blocks before its second frame", header)
    if is_cut:
        return Unreadable.truncated(header, "GIF")
    return header if walk.frames else Unreadable("damaged", "the GIF has no picture", header)


def _walk(data: bytes) -> tuple[_Walk, bool]:
    """Return what the blocks say, and whether the file ends before they do."""
    walk = _Walk(data, 13 + _colour_table(data[10]))
    try:
        while walk.blocks < _MOST_BLOCKS and walk.step():
            pass
    except IndexError:
        return walk, True
    return walk, False


def _colour_table(flags: int) -> int:
    """Return the bytes of the colour table that a flag byte announces."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

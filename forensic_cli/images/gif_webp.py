"""GIF and WebP files, which may be animated: header and metadata from one walk through each file.

Sources: GIF89a specification, sections 18 (screen descriptor), 20 (image descriptor) and 23 (graphic control
extension); RFC 9649 for the container of WebP and for VP8L, RFC 6386 section 9.1 for VP8, C2PA 2.2 section A.3.
"""

from dataclasses import dataclass, field, replace

from forensic_cli.images.header import Blocks, Header, Inspection, Unreadable, make_header

_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL = 0xF9  # the extension that says whether the next frame has a transparent colour
_MOST_BLOCKS = 1 << 20
"""265 MB in full ones; a file of blocks of one byte must not take minutes."""


@dataclass
class _GifWalk:
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
    walk, is_cut = _walk_gif(data)
    changes = {"alpha_dropped": walk.is_transparent, "first_frame_only": walk.frames > 1, "palette": True}
    # Pillow makes room for a frame that is larger than its canvas
    header = make_header("GIF", (max(width, walk.right), max(height, walk.bottom)), changes)
    return Inspection(_gif_result(header, walk, is_cut), essential=((0, 13 + _colour_table(data[10])), *walk.essential))


def _gif_result(header: Header, walk: _GifWalk, is_cut: bool) -> Header | Unreadable:
    if walk.blocks >= _MOST_BLOCKS and walk.frames < 2:
        return Unreadable("damaged", f"the GIF has more than {_MOST_BLOCKS} blocks before its second frame", header)
    if is_cut:
        return Unreadable.truncated(header, "GIF")
    return header if walk.frames else Unreadable("damaged", "the GIF has no picture", header)


def _walk_gif(data: bytes) -> tuple[_GifWalk, bool]:
    """Return what the blocks say, and whether the file ends before they do."""
    walk = _GifWalk(data, 13 + _colour_table(data[10]))
    try:
        while walk.blocks < _MOST_BLOCKS and walk.step():
            pass
    except IndexError:
        return walk, True
    return walk, False


def _colour_table(flags: int) -> int:
    """Return the bytes of the colour table that a flag byte announces."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


_ALPHA, _KEY_FRAME = 0x10, b"\x9d\x01\x2a"
_MOST_CHUNKS = 1 << 18  # a file of empty chunks must not take minutes

_Chunks = list[tuple[bytes, int, int]]
"""Name, start and end of the body of each chunk; an end may lie beyond the file's."""


def inspect_webp(data: bytes) -> Inspection:
    """Read the header and the metadata of a WebP. Pillow would make room for the canvas before its size is known."""
    chunks, blocks = _webp_chunks(data), Blocks()
    for name, start, end in chunks:
        if name == b"EXIF" and blocks.has_room("exif"):
            blocks.add("exif", data[start:end])
        elif name == b"XMP " and blocks.has_room("xmp"):
            blocks.add("xmp", data[start:end])
        elif name == b"C2PA":
            blocks.add("c2pa")
    return Inspection(_webp_result(data, chunks, blocks.orientation), blocks.items)


def _webp_chunks(data: bytes) -> _Chunks:
    """Follow the chunks: a name of four bytes, a length of four, and the body, with a byte more where that is odd."""
    chunks: _Chunks = []
    place = 12
    while place + 8 <= len(data) and len(chunks) < _MOST_CHUNKS:
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        chunks.append((data[place : place + 4], place + 8, place + 8 + size))
        place += 8 + size + size % 2
    return chunks


def _webp_result(data: bytes, chunks: _Chunks, orientation: int) -> Header | Unreadable:
    header = _webp_header(data, chunks, orientation)
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        return Unreadable.truncated(header, "WEBP")
    if header is None:
        return Unreadable.bad_header("WEBP")
    if len(chunks) == _MOST_CHUNKS:
        return Unreadable("damaged", f"the WebP has more than {_MOST_CHUNKS} chunks", header)
    return header


def _webp_header(data: bytes, chunks: _Chunks, orientation: int) -> Header | None:
    kind, start, _ = chunks[0] if chunks else (b"", 0, 0)
    size_and_alpha = _size_and_alpha(kind, data[start : start + 10])
    if size_and_alpha is None:
        return None
    width, height, has_alpha = size_and_alpha
    is_extended = kind == b"VP8X"  # else the one chunk of pixels is the whole file
    names = [name for name, _, _ in chunks]
    profile = next((data[start:end] for name, start, end in chunks if name == b"ICCP" and is_extended), b"")
    changes = {"alpha_dropped": has_alpha, "first_frame_only": is_extended and names.count(b"ANMF") > 1}
    header = make_header("WEBP", (width, height), changes, orientation if is_extended else 1, profile)
    return replace(header, compression="webp" if b"VP8 " in names else "lossless")


def _size_and_alpha(kind: bytes, body: bytes) -> tuple[int, int, bool] | None:
    """Return width, height, and whether there is transparency, from the first chunk; None if that is of no known kind.

    VP8X: flags, 3 bytes, both sides less 1 in 3 bytes each. VP8L: 0x2F, both sides less 1 in 14 bits each, a bit for
    alpha. VP8: 3 bytes, a start code, both sides in 14 bits of 2 bytes each.
    """
    if kind == b"VP8X" and len(body) == 10:
        width, height = (1 + int.from_bytes(body[i : i + 3], "little") for i in (4, 7))
        return width, height, bool(body[0] & _ALPHA)
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    if kind == b"VP8 " and len(body) == 10 and body[3:6] == _KEY_FRAME:
        width, height = (int.from_bytes(body[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        return (width, height, False) if width and height else None
    return None

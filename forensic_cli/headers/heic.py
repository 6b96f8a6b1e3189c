"""Headers of HEIC files, through pillow-heif: an optional extra."""

import io
from dataclasses import replace
from typing import Any

from forensic_cli.extras import pip_line
from forensic_cli.headers.base import Header, Unreadable, bad_header, is_other_profile, make_header, truncated
from forensic_cli.headers.boxes import boxes_end_early, has_too_many_boxes, is_turned

_MISSING = Unreadable("unsupported", f"HEIC files need pillow-heif, which is not installed; run: {pip_line('heif')}")


def open_heic(data: bytes) -> Any:
    """Return pillow-heif's lazy file object; its pixels are 8-bit, and turned upright by libheif."""
    import pillow_heif

    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)


def inspect_heic(data: bytes) -> Header | Unreadable:
    """Read the header of a HEIC file; without pillow-heif the answer says what to install."""
    if has_too_many_boxes(data):
        return bad_header("HEIC")
    try:
        file = open_heic(data)
        image = file[file.primary_index]
        changes = {
            "alpha_dropped": image.mode in ("RGBA", "RGBa", "LA", "La"),
            "colour_profile_ignored": is_other_profile(image.info.get("icc_profile") or b""),
            "first_frame_only": len(file) > 1,
            "reduced_to_8_bit": int(image.info["bit_depth"]) > 8,
        }
        # 3 stands for any turn; the pixels come upright from libheif, so that none is left to undo
        header = replace(make_header("HEIC", image.size, changes, 3 if is_turned(data) else 1), orientation=1)
    except ModuleNotFoundError:
        return _MISSING
    except Exception:  # libheif's errors come as several types
        return truncated(name="HEIC") if boxes_end_early(data, "HEIC") else bad_header("HEIC")
    return truncated(header) if boxes_end_early(data, "HEIC") else header

"""Ways to damage a file: what transmission, recovery tools and attackers do to pictures."""

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pictures import PNG_SIGNATURE, split_jpeg, split_png

Mutation = Callable[[bytes, np.random.Generator], bytes]
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 9)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flip_header_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip one to four bits among the first hundred bytes or so, where sizes and types are."""
    return flip_bits(data[:120], rng) + data[120:]


def set_field(data: bytes, rng: np.random.Generator) -> bytes:
    """Write an extreme number where a length, a size or an offset may be stored."""
    width = int(rng.choice([1, 2, 4]))
    near = 200 if rng.random() < 0.7 else len(data)
    place = int(rng.integers(0, max(1, min(near, len(data)) - width)))
    value = int(rng.choice(_EXTREMES)) if rng.random() < 0.8 else len(data) + int(rng.integers(-9, 9))
    number = (value % (1 << 8 * width)).to_bytes(width, "big" if rng.random() < 0.5 else "little")
    return data[:place] + number + data[place + width :]


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """End anywhere."""
    return data[: int(rng.integers(0, len(data)))]


def move_span(data: bytes, rng: np.random.Generator) -> bytes:
    """Take a span out and put it, or zeros, somewhere else or nowhere."""
    start, end = sorted(map(int, rng.integers(0, len(data) + 1, 2)))
    span, rest = data[start:end], data[:start] + data[end:]
    place = int(rng.integers(0, len(rest) + 1))
    return [rest, rest[:place] + span + rest[place:], data[:start] + bytes(end - start) + data[end:], data + span][
        int(rng.integers(4))
    ]


def swap_parts(data: bytes, rng: np.random.Generator) -> bytes:
    """Swap, drop or repeat whole chunks of a PNG or segments of a JPEG; a span of anything else."""
    if data.startswith(PNG_SIGNATURE):
        return PNG_SIGNATURE + b"".join(_shuffled(split_png(data), rng))
    if data.startswith(b"\xff\xd8"):
        return b"".join(_shuffled(split_jpeg(data), rng))
    return move_span(data, rng)


def repair_checksums(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage the chunks of a PNG and correct their checksums, so that the damage gets past them."""
    if not data.startswith(PNG_SIGNATURE):
        return flip_bits(data, rng)
    repaired = []
    for part in split_png(data):
        body = flip_bits(part[8:-4], rng) if len(part) > 12 and rng.random() < 0.4 else part[8:-4]
        repaired.append(part[:8] + body + zlib.crc32(part[4:8] + body).to_bytes(4, "big"))
    return PNG_SIGNATURE + b"".join(repaired)


MUTATIONS: Sequence[Mutation] = (
    *(flip_bits, flip_header_bits, set_field, cut, move_span, swap_parts),
    repair_checksums,
)


def splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Begin as one file and go on as another."""
    return data[: int(rng.integers(0, len(data) + 1))] + other[int(rng.integers(0, len(other) + 1)) :]


def mutant(seeds: Mapping[str, bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """Return the names of a seed and of its one to three mutations, and what became of it."""
    names = sorted(seeds)
    name = names[int(rng.integers(len(names)))]
    data, steps = seeds[name], [name]
    for _ in range(int(rng.integers(1, 4))):
        if not data:
            break
        if rng.random() < 0.1:
            other = names[int(rng.integers(len(names)))]
            data, step = splice(data, seeds[other], rng), f"splice-{other}"
        else:
            mutation = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
            data, step = mutation(data, rng), mutation.__name__
        steps.append(step)
    return "+".join(steps), data


def _shuffled(parts: list[bytes], rng: np.random.Generator) -> list[bytes]:
    if not parts:
        return parts
    first, second = map(int, rng.integers(0, len(parts), 2))
    kind = int(rng.integers(3))
    if kind == 0:
        parts[first], parts[second] = parts[second], parts[first]
    elif kind == 1:
        del parts[first]
    else:
        parts.insert(second, parts[first])
    return parts

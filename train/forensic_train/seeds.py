"""Seeds by purpose, so that a change in one place never changes the random numbers of another (as in DomainBed)."""

import hashlib

import numpy as np


def seed_for(purpose: str, seed: int, *parts: int) -> int:
    """Return a 63-bit seed from a purpose, the seed of the run and further numbers such as an epoch."""
    text = ":".join([purpose, str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(purpose: str, seed: int, *parts: int) -> np.random.Generator:
    """Return a NumPy random generator, seeded by seed_for()."""
    return np.random.default_rng(seed_for(purpose, seed, *parts))

"""The registry of miniature generators. Another family is one new file in generators/ and one line here."""

from collections.abc import Callable, Mapping
from functools import partial

from forensic_benchmark.generators.base import MiniatureGenerator
from forensic_benchmark.generators.guided_diffusion import GuidedDiffusion
from forensic_benchmark.generators.latent_diffusion import LatentDiffusion
from forensic_benchmark.generators.lsgm import Lsgm
from forensic_benchmark.generators.stylegan2 import StyleGan2
from forensic_benchmark.generators.stylegan3 import StyleGan3
from forensic_benchmark.generators.taming_transformers import TamingTransformers
from forensic_benchmark.generators.transposed_gan import TransposedGan

_PAPER = (GuidedDiffusion, LatentDiffusion, Lsgm, StyleGan2, StyleGan3, TamingTransformers)
PAPER_FAMILIES = tuple(kind.family for kind in _PAPER)
"""The six labels, in the paper's order."""
OUTSIDER = TransposedGan.family
"""The generator that no attributor is trained on."""
SWAPPED = {"stylegan2": "stylegan2_nearest", "lsgm": "lsgm_nearest"}
"""Families, and each with the up-sampling of guided_diffusion in place of its own and nothing else changed."""

BLUEPRINTS: Mapping[str, Callable[[], MiniatureGenerator]] = {
    **{kind.family: kind for kind in _PAPER},
    OUTSIDER: TransposedGan,
    SWAPPED["stylegan2"]: partial(StyleGan2, upsampling="nearest"),
    SWAPPED["lsgm"]: partial(Lsgm, upsampling="nearest"),
}
"""What makes each checkpoint's network with fresh weights."""

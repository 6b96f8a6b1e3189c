"""Settings of a technique: its own defaults, those of the recipe, and what the user sets."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, get_type_hints

from forensic_cli.errors import UsageError
from forensic_train.recipes import Recipe
from forensic_train.techniques import find_techniques
from forensic_train.techniques.base import Settings, Technique


def make_settings(kind: type[Technique], recipe: Recipe, overrides: Mapping[str, str], strict: bool = True) -> Settings:
    """Merge the defaults of a technique and a recipe with what the user sets. Raises UsageError for a wrong setting.

    With several techniques (not `strict`), a setting that only another technique has is ignored. `technique.setting`
    applies to that technique only and overrides `all.setting` and a plain `setting`.
    """
    types = get_type_hints(kind.settings_type)
    values: dict[str, Any] = dict(recipe.settings) if kind.trains_encoder else {}
    for name, text in _meant_for(kind, overrides).items():
        if name in types:
            values[name] = _parse(name, text, types[name])
        elif strict or not any(name in get_type_hints(other.settings_type) for other in find_techniques("all")):
            allowed = ", ".join(f.name for f in fields(kind.settings_type))
            raise UsageError(f"setting {name!r} is not known to {kind.name}; allowed: {allowed}")
    settings = kind.settings_type(**values)
    if settings.epochs < 1 or settings.batch_size < 1 or not 0 < settings.lr < math.inf:
        raise UsageError("epochs and batch_size must be at least 1, and lr above 0")
    for name, value in asdict(settings).items():
        most = 1.0 if name in ("label_smoothing", "momentum") else math.inf
        if isinstance(value, float) and not 0 <= value <= most:
            raise UsageError(f"setting {name} is {value}; it must lie between 0 and {most}")
    return settings


def _meant_for(kind: type[Technique], overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that apply to a technique, without the names of techniques in front of them."""
    meant = {name: text for name, text in overrides.items() if "." not in name}
    own: dict[str, str] = {}
    for name, text in overrides.items():
        technique, dot, setting = name.partition(".")
        if dot and kind in find_techniques(technique):
            (own if technique == kind.name else meant)[setting] = text
    return {**meant, **own}


def _parse(name: str, text: str, kind: Any) -> Any:
    """Return the value of a setting whose type is bool, int, float or a Literal of texts."""
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"setting {name} is {text!r}; allowed: true, false")
        return text.lower() == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError as error:
            raise UsageError(f"setting {name} is {text!r}; it must be a number ({kind.__name__})") from error
    allowed = kind.__args__
    if text not in allowed:
        raise UsageError(f"setting {name} is {text!r}; allowed: {', '.join(allowed)}")
    return text

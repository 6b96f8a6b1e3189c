"""Parts of labelled images that are left out in turn, so that nothing is measured on what it was fitted on."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Indices: TypeAlias = npt.NDArray[np.int64]
Folds: TypeAlias = list[tuple[Indices, Indices]]
"""Pairs of (kept, left out), each the places of images."""

MOST_FOLDS = 20
"""With more groups than this, several are left out together."""


def group_folds(groups: Sequence[str]) -> Folds:
    """Leave out one group of images at a time; no folds where there is one group only."""
    from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

    count = len(set(groups))
    if count < 2:
        return []
    splitter = LeaveOneGroupOut() if count <= MOST_FOLDS else GroupKFold(MOST_FOLDS)
    names = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)[1]
    return [(np.asarray(kept), np.asarray(out)) for kept, out in splitter.split(names, groups=names)]

"""Learning curves: the losses and accuracies of a run by epoch, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from forensic_train.run import atomic


def draw_curves(path: Path, title: str, history: Sequence[Mapping[str, float]]) -> None:
    """Draw what a run logged, one panel for losses and one for accuracies, with validation beside training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    panels = figure.subplots(1, 2)
    epochs = [entry["epoch"] for entry in history]
    for panel, kind in zip(panels, ("loss", "accuracy"), strict=True):
        names = dict.fromkeys(name for entry in history for name in entry if name.endswith(kind))
        for name in names:
            values = [entry.get(name, float("nan")) for entry in history]
            panel.plot(epochs, values, label=name, marker="o", markersize=3, linestyle="--" if "val" in name else "-")
        panel.set(xlabel="epoch", title=kind)
        panel.grid(alpha=0.3)
        if names:
            panel.legend()
    figure.suptitle(title)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)

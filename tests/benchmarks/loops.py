"""What a scan is compared with: folders judged by a plain loop, as one writes it with torchvision or with timm.

usage: python tests/benchmarks/loops.py torchvision|timm FOLDER

Networks have fresh weights, which cost as much time as trained ones. timm's loop has its loader and its resnet50, as
the inference script of its repository has; it needs `pip install timm`.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

BATCH = 32
CLASSES = 7


def main() -> None:
    """Judge every image of a folder, and print how many there were."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    loader, network = {"torchvision": torchvision_loop, "timm": timm_loop}[kind](folder, cores)
    network.eval()
    found: list[int] = []
    with torch.inference_mode():
        for batch in loader:
            found += network(batch[0]).softmax(dim=1).argmax(dim=1).tolist()
    print(len(found))


def torchvision_loop(folder: Path, cores: int) -> tuple[Iterable[tuple[Tensor, Tensor]], nn.Module]:
    """Return torchvision's reader, transforms and ResNet-50."""
    from torch.utils.data import DataLoader, Dataset
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.models import resnet50
    from torchvision.transforms import v2

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    change = v2.Compose(
        [v2.Resize((224, 224)), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    )

    class Images(Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return change(decode_image(str(files[index]), ImageReadMode.RGB)), index

    return DataLoader(Images(), BATCH, num_workers=cores), resnet50(weights=None, num_classes=CLASSES)


def timm_loop(folder: Path, cores: int) -> tuple[Iterable[tuple[Tensor, Tensor]], nn.Module]:
    """Return timm's data set, loader and resnet50."""
    import timm
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", root=str(folder)),
        (3, 224, 224),
        BATCH,
        use_prefetcher=False,
        num_workers=cores,
        device=torch.device("cpu"),
    )
    return loader, timm.create_model("resnet50", num_classes=CLASSES)


if __name__ == "__main__":
    main()

"""Signals: what is measured of an image, in which forms, and that an export measures the same."""

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from forensic_cli.card import ModelCard, Preprocessing
from forensic_cli.errors import DataError
from forensic_cli.images.decode import Decoded, decode
from forensic_cli.images.header import Pixels, state_of
from forensic_cli.images.views import views
from forensic_cli.model import Model
from forensic_train import encoders
from forensic_train import signals as signals_module
from forensic_train.encoders import StateEncoder
from forensic_train.loader import loader
from forensic_train.manifest import with_hashes
from forensic_train.measurements import (
    BlockCoefficients,
    Cooccurrences,
    LineSpectra,
    Measurements,
    PeriodicPattern,
    Residuals,
)
from forensic_train.network import Network, StateHead
from forensic_train.onnx_export import export_network
from forensic_train.recipes import Recipe
from forensic_train.rows import Row
from forensic_train.signals import DRAWS, FORMS, SignalDataset, Signals, draw_forms, measure_signals
from forensic_train.techniques.base import Context
from forensic_train.techniques.finetune import Finetune, FinetuneSettings
from forensic_train.training import train
from forensic_train.training_plan import TrainOptions

VIEWS = Preprocessing("patches", 32, grid=2, align=32)
KEY = "0123456789abcdef"


class SmallStateEncoder(StateEncoder):
    """Few components, so that few images suffice to fit them."""

    components = (4,) * 7
    hidden = 8
    side = VIEWS.size


def textured(seed: int, side: int = 144) -> Pixels:
    """Return a smooth picture with noise, as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return np.clip(smooth + rng.normal(0, 3 + seed, smooth.shape), 0, 255).astype(np.uint8)


def images_of(*pictures: Pixels) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()


def decoded(data: bytes) -> Decoded:
    found = decode(data)
    assert isinstance(found, Decoded)
    return found


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Return two PNGs and a JPEG with their hashes."""
    for i in range(3):
        name, options = (f"{i}.png", {}) if i < 2 else ("2.jpg", {"quality": 85})
        Image.fromarray(textured(i)).save(tmp_path / name, **options)
    return with_hashes([Row(path, "a", "x") for path in sorted(tmp_path.iterdir())])


def measured(rows: list[Row], folder: Path, workers: int = 1) -> Signals:
    return measure_signals(rows, SmallStateEncoder(), VIEWS, folder, workers)


def fitted_network(signals: Signals, labels: int = 3) -> Network:
    """Return a network whose fixed part fits some signals."""
    torch.manual_seed(0)
    network = Network(SmallStateEncoder(), labels)
    dataset = SignalDataset([], signals, [(0, 0)] * len(signals.values), network.encoder.states, 0)
    with torch.no_grad():
        network.encoder.prepare_signals(*dataset.flat(np.ones(len(dataset))))
    return network.eval()


# What is measured


def test_shares_of_triples_sum_to_one_in_every_histogram() -> None:
    found = Cooccurrences()(images_of(textured(0), textured(5)))
    assert found.shape == (2, Cooccurrences.width)
    sums = found.square().reshape(2, 8, 125).sum(dim=2)
    assert sums.numpy() == pytest.approx(np.ones((2, 8)), abs=1e-5)


def test_a_flat_picture_has_one_triple_only() -> None:
    found = Cooccurrences()(torch.full((1, 3, 32, 32), 77.0)).reshape(8, 125)
    assert (found.argmax(dim=1) == 62).all()  # no difference three times: 2 * 25 + 2 * 5 + 2
    assert found.sum() == 8


def test_transposing_a_picture_changes_no_histogram_of_a_plane() -> None:
    """Rows and columns are counted together; the colours' histogram is of rows alone."""
    picture = images_of(textured(3))
    plain, turned = (Cooccurrences()(one).reshape(2, 4, 125)[:, :3] for one in (picture, picture.transpose(2, 3)))
    assert torch.allclose(plain, turned, atol=1e-6)


def test_mirroring_a_picture_reverses_its_triples() -> None:
    picture = images_of(textured(3))
    # Only along rows: columns of a picture whose rows are all alike stay as they are
    rows = picture[:, :, :1].expand(-1, -1, 144, -1).contiguous()
    plain, mirrored = (Cooccurrences()(one).reshape(2, 4, 5, 5, 5)[:, :3] for one in (rows, rows.flip(3)))
    assert torch.allclose(mirrored, plain.transpose(2, 4), atol=1e-6)
    assert not torch.allclose(mirrored, plain, atol=1e-3)


def test_the_basis_of_the_block_coefficients_is_orthonormal_and_opencvs() -> None:
    basis = BlockCoefficients().kernels.reshape(64, 64)
    assert (basis @ basis.T).numpy() == pytest.approx(np.eye(64), abs=1e-6)
    block = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    found = (basis @ torch.from_numpy(block).flatten()).reshape(8, 8).numpy()
    assert found == pytest.approx(cv2.dct(block), abs=1e-5)


def test_block_coefficients_are_measured_on_the_grid_of_a_jpeg() -> None:
    """On it most coefficients of a compressed picture are zero; beside it few are."""
    data = BytesIO()
    Image.fromarray(textured(4)).save(data, "JPEG", quality=60, subsampling=0)
    pixels = decoded(data.getvalue()).pixels
    zeros = [
        float(BlockCoefficients()(images_of(pixels[top : top + 96, top : top + 96])).reshape(3, 4, 64)[0, 1].mean())
        for top in (0, 1, 4, 8)
    ]
    assert min(zeros[0], zeros[3]) > 0.7
    assert max(zeros[1:3]) < 0.4


def test_measurements_come_block_after_block_and_do_not_hang_on_rounding_errors() -> None:
    measurements = Measurements(128)
    picture = images_of(textured(1, 128), textured(2, 128)) / 255
    found = measurements.finish(measurements(picture))
    assert found.shape == (2, measurements.width)
    assert measurements.blocks == (3 * 17 * 17, 1000, 1000, 1000, 768, 2 * 3 * 65, 6 * 17 * 17)
    assert torch.isfinite(found).all()
    parts = torch.split(found, list(measurements.blocks), dim=1)
    assert torch.equal(parts[1], measurements.cooccurrences(torch.round(picture * 255)))
    shaken = picture + 1e-6 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(measurements.finish(measurements(shaken)), found, atol=1e-3)


def test_residuals_are_what_opencvs_blurs_leave() -> None:
    picture = textured(2, 128)
    fine, coarse = (part[0, 0].numpy() for part in Residuals(128)(images_of(picture)))
    luma = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    edge = cv2.BORDER_REPLICATE
    assert fine == pytest.approx(np.clip(luma - cv2.blur(luma, (3, 3), borderType=edge), -6, 6), abs=1e-3)
    bell = cv2.GaussianBlur(luma, (15, 15), 2.5, borderType=edge)
    assert coarse == pytest.approx(np.clip(luma - bell, -15, 15), abs=1e-3)


def patches_of(pixels: Pixels) -> Tensor:
    """Return the patches of 128 pixels that an image divides into."""
    high, wide = pixels.shape[0] // 128, pixels.shape[1] // 128
    cut = pixels.reshape(high, 128, wide, 128, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 128, 128, 3)
    return torch.from_numpy(np.ascontiguousarray(cut)).permute(0, 3, 1, 2) / 255


def pattern_of(pixels: Pixels) -> Tensor:
    """Return an image's shares of repeated power, planes x 17 x 17."""
    measurements = Measurements(128)
    raw = measurements(patches_of(pixels)).mean(dim=0, keepdim=True)
    return measurements.finish(raw)[0, -PeriodicPattern.width :].reshape(6, 17, 17)


@pytest.mark.parametrize("quality", [0, 85])
def test_a_pattern_that_repeats_itself_is_found_at_its_harmonics_even_under_a_jpeg(quality: int) -> None:
    """A pattern of 8 pixels has its harmonics at every fourth of the 32 frequencies; it is weaker than the noise."""
    rng = np.random.default_rng(0)
    plain = textured(2, 512).astype(np.float64)
    pattern = np.tile(rng.normal(0, 1.0, (8, 8, 1)), (64, 64, 3))
    found = []
    for picture in (plain, plain + pattern):
        pixels = np.clip(np.round(picture), 0, 255).astype(np.uint8)
        if quality:
            data = BytesIO()
            Image.fromarray(pixels).save(data, "JPEG", quality=quality)
            pixels = decoded(data.getvalue()).pixels
        found.append(pattern_of(pixels)[0])
    gain = found[1] - found[0]
    others = torch.ones(17, 17, dtype=torch.bool)
    others[::4, ::4] = False
    assert gain[::4, ::4].mean() > 1
    assert gain[others].mean() < 0


def test_a_blank_picture_repeats_nothing() -> None:
    assert pattern_of(np.full((128, 128, 3), 99, np.uint8)).abs().max() < 1e-4


def test_lines_add_up_along_their_axis_at_any_period() -> None:
    columns = 3 * np.sin(2 * np.pi * np.arange(128) * 21 / 128)
    residual = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (1, 3, 128, 128)) + columns).float()
    found = LineSpectra(128)(residual).reshape(3, 2, 65)
    assert (found[:, 0].argmax(dim=1) == 21).all()
    assert found[:, 0, 21].min() > found[:, 1].max() + 2


# Forms


def test_an_image_is_drawn_in_every_form_by_its_key_alone() -> None:
    pixels = textured(2, 200)
    header = decoded(png(pixels)).header
    first, again = (draw_forms(pixels, header, KEY) for _ in range(2))
    assert len(first) == len(FORMS)
    assert all(np.array_equal(a, b) and x == y for (a, x), (b, y) in zip(first, again, strict=True))
    other = draw_forms(pixels, header, "fedcba9876543210")
    assert np.array_equal(first[0][0], pixels)
    assert not any(np.array_equal(a, b) for (a, _), (b, _) in zip(first[1:], other[1:], strict=True))


def png(pixels: Pixels) -> bytes:
    return bytes(cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1])


def test_a_forms_state_is_what_its_file_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a form is the one that a scan reads from the header of such a file."""
    written: list[bytes] = []
    encode = cv2.imencode

    def remember(suffix: str, pixels: Any, options: Any) -> Any:
        done = encode(suffix, pixels, options)
        written.append(done[1].tobytes())
        return done

    pixels = textured(2, 200)
    monkeypatch.setattr(cv2, "imencode", remember)
    for name, draw in DRAWS.items():
        for seed in range(12):
            written.clear()
            form, state = draw(pixels, np.random.default_rng(seed))
            # The last one written is what the form is read from, but for what is saved without loss
            lossless = not written or name == "saved again"
            file = encode(".png", cv2.cvtColor(form, cv2.COLOR_RGB2BGR))[1].tobytes() if lossless else written[-1]
            assert state_of(decoded(file).header).name == state, (name, seed)
            assert np.array_equal(decoded(file).pixels, form)
            if name in ("jpeg-93", "jpeg-80", "jpeg-60", "webp"):
                assert state == name


def test_the_first_form_is_in_the_state_of_the_file(rows: list[Row], tmp_path: Path) -> None:
    states = measured(rows, tmp_path / "signals").states
    assert [row[0] for row in states.tolist()] == ["lossless", "lossless", "jpeg-80"]


@pytest.mark.parametrize("side", [1, 7, 40, 130])
def test_small_images_have_every_form_too(side: int) -> None:
    pixels = textured(1, side)
    for form, _ in draw_forms(pixels, decoded(png(pixels)).header, KEY):
        assert form.dtype == np.uint8
        assert min(form.shape[:2]) >= min(side, 64)


# On disk


def test_measured_twice_the_bytes_are_the_same(rows: list[Row], tmp_path: Path) -> None:
    found, again = measured(rows, tmp_path / "a"), measured(rows, tmp_path / "b", workers=2)
    assert found.values.shape == (3, len(FORMS), Measurements(VIEWS.size).width)
    assert found.values.tobytes() == again.values.tobytes()
    assert found.states.tolist() == again.states.tolist()
    files = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.npz")}
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert files[0] == files[1]
    assert {path.stem for path in files[0]} == {row.sha256 for row in rows}


def test_what_was_measured_is_read_back_and_half_a_file_is_measured_again(rows: list[Row], tmp_path: Path) -> None:
    folder = tmp_path / "signals"
    first = measured(rows, folder)
    kept = {row.sha256: folder / row.sha256[:2] / f"{row.sha256}.npz" for row in rows}
    whole = kept[rows[0].sha256].read_bytes()
    for row in rows[1:]:
        row.path.unlink()  # what is kept needs no image
    for rest in (whole[: len(whole) // 2], whole[:3], b"", b"PK\x03\x04" + bytes(100)):
        kept[rows[0].sha256].write_bytes(rest)
        again = measured(rows, folder)
        assert again.values.tobytes() == first.values.tobytes()
        assert again.states.tolist() == first.states.tolist()
        assert kept[rows[0].sha256].read_bytes() == whole
    assert list(folder.rglob("*.tmp")) == []


def test_an_image_that_is_there_twice_is_measured_by_two_threads_at_once(rows: list[Row], tmp_path: Path) -> None:
    for attempt in range(6):
        found = measured([rows[0]] * 4, tmp_path / f"signals-{attempt}", workers=4)
        assert (found.values == found.values[:1]).all()


def test_an_image_that_cannot_be_read_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("text")
    with pytest.raises(DataError, match=r"bad\.png: no known image format"):
        measured(with_hashes([Row(tmp_path / "bad.png", "a", "x")]), tmp_path / "signals")


# Training examples


def test_each_epoch_draws_a_known_form_of_an_image(rows: list[Row], tmp_path: Path) -> None:
    signals = measured(rows, tmp_path / "signals")
    states = ("lossless", "jpeg-80")
    dataset = SignalDataset(rows, signals, [(0, 0), (1, 0), (2, 1)], states, seed=4)
    drawn: dict[int, set[int]] = {}
    for dataset.epoch in range(40):
        for index in range(3):
            value, label, subject, state = dataset[index, index]
            assert (label, subject) == ((0, 0), (1, 0), (2, 1))[index]
            same = (signals.values[index].astype(np.float32) == value.numpy()).all(axis=1)
            assert states[state] in signals.states[index][same]
            drawn.setdefault(index, set()).update(np.flatnonzero(same).tolist())
    known = np.isin(signals.states, states)
    assert drawn == {index: set(np.flatnonzero(known[index]).tolist()) for index in range(3)}
    values, indices, weights = dataset.flat(np.array([1.0, 2.0, 3.0]))
    assert len(values) == len(indices) == known.sum()
    assert weights.tolist() == np.repeat([1.0, 2.0, 3.0], known.sum(axis=1)).tolist()


# The network


def test_whitened_signals_have_variance_one_and_distance_one(rows: list[Row], tmp_path: Path) -> None:
    many = [Row(tmp_path / f"more-{i}.png", "a", "x") for i in range(12)]
    for i, row in enumerate(many):
        Image.fromarray(textured(i + 10)).save(row.path)
    signals = measured(with_hashes(many), tmp_path / "signals")
    network = fitted_network(signals)
    encoder = network.encoder
    values, states, _ = SignalDataset([], signals, [(0, 0)] * 12, encoder.states, 0).flat(np.ones(12))
    with torch.no_grad():
        distances = encoder.distance(values, states)
    assert float(distances.square().mean()) == pytest.approx(1, abs=0.05)
    assert float(encoder.distance(values[:1] + 40, states[:1])) > 3


def test_an_export_agrees_with_pytorch_on_images_of_different_numbers_of_views(rows: list[Row], tmp_path: Path) -> None:
    network = fitted_network(measured(rows, tmp_path / "signals"))
    states = network.encoder.states
    card = ModelCard("x", "baseline", "small", ("real", "a", "b"), VIEWS, states=states)
    export_network(network, card, tmp_path / "x.onnx")
    model = Model.load(tmp_path / "x.onnx")
    cut = [views(textured(i, side), VIEWS) for i, side in enumerate((20, 40, 144, 64))]
    assert sorted({len(one) for one in cut}) == [1, 4]
    names = ["jpeg-60", "webp", "lossless", "jpeg-93"]
    together = model.judge(cut, names)
    image = torch.from_numpy(np.repeat(np.arange(4), [len(one) for one in cut]))
    with torch.no_grad():
        logits, distances = network(
            torch.from_numpy(np.concatenate(cut)), image, torch.tensor([states.index(name) for name in names])
        )
    assert together.logits == pytest.approx(logits.numpy(), abs=1e-4)
    assert together.distances == pytest.approx(distances.numpy(), rel=1e-3)
    # Nothing of an image's evidence depends on its neighbours, and all of it on its state
    for i, name in enumerate(names):
        alone = model.judge([cut[i]], [name])
        assert alone.logits[0] == pytest.approx(together.logits[i], abs=1e-5)
        assert alone.distances[0] == pytest.approx(together.distances[i], rel=1e-5)
        other = model.judge([cut[i]], [names[i - 1]])
        assert np.abs(other.logits - alone.logits).max() > 1e-3


def test_a_scan_measures_what_training_measured(rows: list[Row], tmp_path: Path) -> None:
    signals = measured(rows, tmp_path / "signals")
    network = fitted_network(signals)
    states = network.encoder.states
    for i, row in enumerate(rows):
        cut = torch.from_numpy(views(decoded(row.path.read_bytes()).pixels, VIEWS))
        state = torch.tensor([states.index(str(signals.states[i, 0]))])
        with torch.no_grad():
            logits, _ = network(cut, torch.zeros(len(cut), dtype=torch.int64), state)
            expected = network.classify(torch.from_numpy(signals.values[i, :1].astype(np.float32)), state)
        assert logits.numpy() == pytest.approx(expected.numpy(), abs=0.02)  # signals are kept as float16


def test_one_member_learns_from_an_example_and_all_of_them_judge_by_their_mean(rows: list[Row], tmp_path: Path) -> None:
    network = fitted_network(measured(rows, tmp_path / "signals"))
    encoder, head = network.encoder, network.generator_head
    assert isinstance(encoder, SmallStateEncoder)
    encoder.noise.p = encoder.thinned.p = 0.0
    signal, state = torch.randn(8, encoder.measurements.width), torch.arange(8) % 5
    with torch.no_grad():
        encoder.train()
        taught = encoder(signal, state).reshape(8, encoder.members, -1)
        active = taught.abs().sum(dim=2) > 0
        assert (active.sum(dim=1) == 1).all()
        assert active.any(dim=0).sum() > 1
        encoder.eval()
        together = encoder(signal, state)
        alone = []
        for member in range(encoder.members):
            features = torch.zeros(8, encoder.members, together.shape[1] // encoder.members)
            features[:, member] = together.reshape(features.shape)[:, member] * encoder.members
            alone.append(head(features.flatten(1), state))
        assert torch.allclose(head(together, state), torch.stack(alone).mean(dim=0), atol=1e-5)


def test_every_state_has_weights_of_its_own() -> None:
    head = StateHead(6, 3, 4)
    features, state = torch.randn(5, 6), torch.tensor([0, 3, 1, 3, 2])
    with torch.no_grad():
        found = head(features, state)
        for i, k in enumerate(state.tolist()):
            assert torch.allclose(found[i], head.weight[k] @ features[i] + head.bias[k], atol=1e-6)


# The whole of it


class FewMeasurements(nn.Module):
    """Means and deviations of the colours: an export takes seconds less than with all measurements."""

    blocks = (3, 3)
    raw_width = width = 6

    def __init__(self, side: int) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)

    def finish(self, raw: Tensor) -> Tensor:
        return raw


class FewStateEncoder(StateEncoder):
    """What is learnt from such measurements."""

    components = (2, 2)
    hidden = 8
    side = VIEWS.size


@pytest.fixture
def small_recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    from forensic_train.recipes import RECIPES

    monkeypatch.setattr(encoders, "Measurements", FewMeasurements)
    recipe = Recipe("small", VIEWS, FewStateEncoder, settings={"epochs": 2, "batch_size": 16})
    monkeypatch.setitem(RECIPES, "small", recipe)  # type: ignore[arg-type]
    return recipe


def test_techniques_learn_from_signals_that_are_measured_once(
    small_recipe: Recipe, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals_module, "_LARGEST", 64)
    output, kept = tmp_path / "run", tmp_path / "kept"
    options = TrainOptions("baseline", labelled, output, "small", seed=3, device="cpu", signals=kept)
    train(options)
    files = {path: path.stat().st_mtime_ns for path in kept.rglob("*.npz")}
    assert files
    second = TrainOptions("discriminant", None, output, "small", seed=3, device="cpu", origin=output, signals=kept)
    train(second, evaluated=False)
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*.npz")} == files
    cards = [Model.load(output / "exports" / f"small-{name}.onnx").card for name in ("baseline", "discriminant")]
    assert [card.states for card in cards] == [StateEncoder.states] * 2
    assert set(cards[0].decisions) == set(StateEncoder.states)
    assert cards[0].metrics["test"]["images"] > 0


def test_finetune_learns_from_signals_with_the_head_alone(rows: list[Row], tmp_path: Path) -> None:
    signals = measured(rows, tmp_path / "signals")
    network = fitted_network(signals, labels=2)
    context = Context(("a", "b"), ("x",), {"a": {"x": 2}, "b": {"x": 1}}, 1, 0)
    technique = Finetune(network, FinetuneSettings(), context)
    dataset = SignalDataset(rows, signals, [(0, 0), (0, 0), (1, 0)], network.encoder.states, 0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    technique.start_epoch(0)
    (batch,) = loader(technique.inputs(dataset), [0, 1, 2], 3, workers=0)
    losses = [technique.update(batch)["loss"] for _ in range(20)]
    assert losses[-1] < losses[0]
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"generator_head.weight", "generator_head.bias"}

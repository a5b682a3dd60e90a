"""The judges of samples: the one that ships knows clothes, others are trained once from the labels beside the images."""

import struct

import pytest
import torch

import dpi_core
from dpi_core.classifier import class_probabilities, recognition
from dpi_core.cli import main
from dpi_core.data import FASHION_MNIST_PAGE, DataConfig, ImageData, load_data
from dpi_core.judges import SHIPPED, find_judge, load_judge

IDX = DataConfig("idx")


def idx_file(path, values):
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.to(torch.uint8).numpy().tobytes())


@pytest.fixture
def stripes(tmp_path):
    """A folder of idx files: noisy 8x8 images, rows in class 0 and columns in class 1."""
    rng = torch.Generator().manual_seed(0)
    rows = torch.tensor([200.0, 50.0]).repeat(4)[:, None].expand(8, 8)
    folder = tmp_path / "stripes"
    folder.mkdir()
    for part, n in (("train", 256), ("t10k", 64)):
        labels = torch.randint(2, (n,), generator=rng)
        images = torch.where(labels[:, None, None] == 0, rows, rows.T) + 20 * torch.randn(n, 8, 8, generator=rng)
        idx_file(folder / f"{part}-images-idx3-ubyte", images.clamp(0, 255))
        idx_file(folder / f"{part}-labels-idx1-ubyte", labels)
    return folder


def test_a_judge_is_trained_from_the_labels_once_and_kept(stripes, tmp_path):
    data = load_data(IDX, stripes)
    judge = find_judge(data, IDX, stripes, tmp_path / "kept")
    assert judge.about() == {"data": "stripes", "accuracy": judge.accuracy, "held_out": 64, "epochs": 10}
    right = class_probabilities(judge.classifier, data.held_out).argmax(1) == dpi_core.data.idx_labels(stripes).held_out
    assert judge.accuracy == right.double().mean().item() > 0.95
    (stripes / "train-labels-idx1-ubyte").unlink()  # so that it could not be trained again
    kept = find_judge(data, IDX, stripes, tmp_path / "kept")
    assert kept.about() == judge.about() and not kept.classifier.training
    torch.testing.assert_close(
        class_probabilities(kept.classifier, data.held_out), class_probabilities(judge.classifier, data.held_out)
    )


def test_without_labels_there_is_no_judge(stripes):
    assert find_judge(load_data(DataConfig("digits")), DataConfig("digits"), stripes) is None
    assert find_judge(load_data(IDX, stripes), IDX, None) is None
    (stripes / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="holds neither t10k-labels"):
        find_judge(load_data(IDX, stripes), IDX, stripes)


def test_the_command_writes_a_judge(stripes, tmp_path, capsys):
    main(["judge", "--data", str(stripes), "--epochs", "2", "--out", str(tmp_path / "made" / "judge.safetensors")])
    made = load_judge(tmp_path / "made" / "judge.safetensors")
    assert (made.data, made.epochs) == ("stripes", 2)
    assert f"{100 * made.accuracy:.1f} % of 64 held-out images" in capsys.readouterr().out


def test_fashion_mnist_is_judged_by_the_classifier_that_ships():
    fashion = ImageData(train=torch.zeros(1, 1, 28, 28), held_out=torch.zeros(1, 1, 28, 28), name="Fashion-MNIST",
                        licence="MIT", source=FASHION_MNIST_PAGE)  # fmt: skip
    judge = find_judge(fashion, IDX, SHIPPED.parent)
    assert judge.about() == load_judge(SHIPPED).about() and judge.data == "Fashion-MNIST" and judge.held_out == 10_000


def test_the_judge_that_ships_recognises_what_the_model_that_ships_draws():
    """Neither of them has seen the other: the images of one are clothes to the other, and noise is far less so."""
    model = dpi_core.load("checkpoints/fashion-flow-dpi")
    judge = load_judge(SHIPPED)
    seen = recognition(judge.classifier, model.sample(64, "heun", 16).x.float().clamp(-1, 1))
    assert seen.frac_confident > 0.6 and seen.classes_used >= 7

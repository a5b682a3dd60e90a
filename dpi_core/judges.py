"""Who judges the samples of an image set: a classifier that ships, or one trained from the set's own labels.

judges/fashion-mnist.safetensors   weights; the metadata say how they were trained and how often they are right
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dpi_core.classifier import Classifier, ClassifierConfig, accuracy, train_classifier
from dpi_core.config import from_dict
from dpi_core.data import Data, DataConfig, ImageData, idx_labels
from dpi_core.idx_files import FASHION_MNIST_PAGE

SHIPPED = Path(__file__).parent / "judges" / "fashion-mnist.safetensors"
EPOCHS, SEED = 10, 0


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier of an image set, and how far it can be believed.

    Attributes:
        classifier: in evaluation mode.
        data: the image set's name.
        accuracy: share of the held-out images that it names rightly.
        held_out: how many those are.
        epochs: of its training.
    """

    classifier: Classifier
    data: str
    accuracy: float
    held_out: int
    epochs: int

    def about(self) -> dict[str, float | int | str]:
        """Everything but the classifier."""
        return {"data": self.data, "accuracy": self.accuracy, "held_out": self.held_out, "epochs": self.epochs}


def find_judge(
    data: Data, config: DataConfig, folder: Path | None, kept: Path | None = None, device: str | torch.device = "cpu"
) -> Judge | None:
    """The judge of a data set: for Fashion-MNIST the one that ships, for other idx files one trained from their labels.

    Args:
        data: what was read.
        config: says of which kind the data are.
        folder: where idx files lie, labels beside the images.
        kept: where judges that had to be trained are kept for the next time; None keeps none.
        device: where the judge lives, and is trained.

    Returns:
        None where no labels are known: for data of other kinds, and without a folder.

    Raises:
        ValueError: the labels are missing or damaged.
    """
    if config.kind != "idx" or folder is None or not isinstance(data, ImageData):
        return None
    if data.source == FASHION_MNIST_PAGE:
        return load_judge(SHIPPED, device)
    images = hashlib.sha256(data.train.numpy().tobytes()).hexdigest()[:12]
    file = None if kept is None else kept / f"{images}-{EPOCHS}-epochs.safetensors"
    if file is not None and file.is_file():
        return load_judge(file, device)
    judge = train_judge(data, folder, device=device)
    if file is not None:
        save_judge(judge, file)
    return judge


def train_judge(data: ImageData, folder: Path, epochs: int = EPOCHS, device: str | torch.device = "cpu") -> Judge:
    """Trains a classifier on the training images and counts how many held-out ones it names rightly.

    Raises:
        ValueError: the labels in the folder are missing, damaged, or not those of the images.
    """
    labels = idx_labels(folder)
    config = ClassifierConfig(data.shape[0], n_classes=int(labels.train.max()) + 1)
    classifier = train_classifier(data.train, labels.train, config, epochs, seed=SEED, device=device)
    right = accuracy(classifier, data.held_out, labels.held_out)
    return Judge(classifier.to(device), data.name, right, len(data.held_out), epochs)


def save_judge(judge: Judge, file: Path) -> None:
    """Writes weights and metadata as safetensors; folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    about = {"about": json.dumps(judge.about()), "classifier": json.dumps(asdict(judge.classifier.config))}
    save_file({name: value.cpu().contiguous() for name, value in judge.classifier.state_dict().items()}, file, about)


def load_judge(file: Path, device: str | torch.device = "cpu") -> Judge:
    """Reads what `save_judge` wrote."""
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    classifier = Classifier(from_dict(ClassifierConfig, json.loads(metadata["classifier"]), "classifier"))
    classifier.load_state_dict(load_file(file))
    return Judge(classifier.to(device).eval(), **json.loads(metadata["about"]))

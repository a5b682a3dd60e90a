"""A small convolutional classifier that judges samples: are they recognised, and are all classes there?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from dpi_core.precision import bfloat16_where_native
from dpi_core.seeds import seeded_generator


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a `Classifier`.

    Attributes:
        in_channels: channels of an image.
        n_classes: number of classes, at least 2.
        channels: features after each convolution level; each level but the first halves the resolution.

    Raises:
        ValueError: a size is out of range.
    """

    in_channels: int = 1
    n_classes: int = 10
    channels: tuple[int, ...] = (32, 64, 128)

    def __post_init__(self) -> None:
        sizes = (self.in_channels, self.n_classes - 1, *self.channels)
        if not self.channels or min(sizes) < 1:
            raise ValueError(
                f"{self} needs in_channels >= 1, n_classes >= 2 and a positive width per level; raise them."
            )


class Classifier(nn.Module):
    """Convolution, batch normalisation, ReLU: once at full resolution, then twice per halving; mean pooling; linear."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.features = nn.Sequential(
            *_conv_norm_relu(config.in_channels, config.channels[0]),
            *(layer for widths in pairwise(config.channels) for layer in _halving_level(*widths)),
        )
        self.logits = nn.Linear(config.channels[-1], config.n_classes)

    def pooled(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b features"]:
        """Returns the features that the logits are linear in."""
        return self.features(x).mean(dim=(2, 3))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n_classes"]:
        """Returns one logit per class."""
        return self.logits(self.pooled(x))


@dataclass(frozen=True)
class Recognition:
    """How a classifier sees a set of samples.

    Attributes:
        frac_confident: share of samples whose most likely class has at least the threshold's probability.
        classes_used: number of classes that are the most likely one of some confident sample.
        per_class_counts: confident samples of each class.
        mean_confidence: mean probability of the most likely class, over all samples.
    """

    frac_confident: float
    classes_used: int
    per_class_counts: tuple[int, ...]
    mean_confidence: float


def train_classifier(
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"],
    config: ClassifierConfig | None = None,
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float = 4e-3,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Classifier:
    """Trains on images, mirrored at random, with AdamW and one learning-rate cycle.

    It computes in bfloat16 on a device that has it, which is several times faster. Five epochs on Fashion-MNIST give
    92.7 % test accuracy in four minutes on one such core.

    Args:
        images: in [-1, 1].
        labels: class of each image, from 0.
        config: sizes of the network; those of 28x28 gray images in ten classes if None.
        epochs: passes over the images.
        batch_size: images per step.
        learning_rate: the cycle's highest.
        seed: of the weights, the order and the mirroring.
        device: where it is trained.

    Returns:
        The classifier in evaluation mode, on the CPU, in float32.

    Raises:
        ValueError: images and labels do not belong together, or there are fewer images than a batch has.
    """
    config = config or ClassifierConfig()
    _check_training_set(images, labels, config.n_classes, batch_size)
    classifier = _initialised(config, seed).to(device)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=learning_rate, weight_decay=0.02)
    steps = epochs * (len(images) // batch_size)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    generator = seeded_generator(seed)
    for _ in range(epochs):
        for chosen in _shuffled_batches(len(images), batch_size, generator):
            mirrored = _mirrored(images[chosen], generator)
            _step(classifier, optimiser, mirrored.to(device), labels[chosen].to(device))
            cycle.step()
    return classifier.eval().cpu()


@torch.no_grad()
def class_probabilities(classifier: nn.Module, samples: Float[Tensor, "n c h w"]) -> Float[Tensor, "n n_classes"]:
    """Returns the probability of every class for every sample, float32 on the CPU, computed 1000 samples at a time."""
    return _in_parts(classifier, classifier, samples).softmax(dim=1)


@torch.no_grad()
def features(classifier: Classifier, samples: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
    """Returns the pooled features of every sample, float32 on the CPU, computed 1000 samples at a time."""
    return _in_parts(classifier, classifier.pooled, samples)


def accuracy(classifier: nn.Module, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]) -> float:
    """Returns the share of images whose most likely class is their label."""
    return (class_probabilities(classifier, images).argmax(dim=1) == labels).double().mean().item()


def recognition(classifier: nn.Module, samples: Float[Tensor, "n c h w"], threshold: float = 0.8) -> Recognition:
    """Judges samples by how surely and how diversely a classifier recognises them.

    Confidence alone proves little: trained on Fashion-MNIST, the classifier takes pure noise for a bag with
    probability 0.95. Read it together with `per_class_counts`, and against the report on held-out images.

    Args:
        classifier: in evaluation mode.
        samples: in [-1, 1], at least one.
        threshold: probability from which on a sample counts as recognised, in [0, 1].

    Raises:
        ValueError: there are no samples, or the threshold is out of range.
    """
    if not len(samples) or not 0 <= threshold <= 1:
        raise ValueError(f"{len(samples)} samples with threshold {threshold}; pass at least one, and one in [0, 1].")
    probabilities = class_probabilities(classifier, samples)
    confidence, label = probabilities.max(dim=1)
    counts = label[confidence >= threshold].bincount(minlength=probabilities.shape[1])
    return Recognition(
        frac_confident=(confidence >= threshold).double().mean().item(),
        classes_used=int((counts > 0).sum()),
        per_class_counts=tuple(counts.tolist()),
        mean_confidence=confidence.double().mean().item(),
    )


def _in_parts(classifier: nn.Module, function: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    device = next((parameter.device for parameter in classifier.parameters()), samples.device)
    return torch.cat([function(part.to(device)).float().cpu() for part in samples.split(1000)])


def _initialised(config: ClassifierConfig, seed: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(config)
    # Convolutions in bfloat16 are fastest on a CPU in this layout.
    return classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub


def _step(
    classifier: Classifier, optimiser: torch.optim.Optimizer, x: Float[Tensor, "b c h w"], labels: Int64[Tensor, " b"]
) -> None:
    with bfloat16_where_native(x.device):
        logits = classifier(x.to(memory_format=torch.channels_last))
    optimiser.zero_grad()
    F.cross_entropy(logits.float(), labels).backward()
    optimiser.step()


def _shuffled_batches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Int[Tensor, " batch"]]:
    """Every index at most once; a last, smaller batch is left out."""
    return (part for part in torch.randperm(n, generator=generator).split(batch_size) if len(part) == batch_size)


def _mirrored(x: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    flip = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    return torch.where(flip, x.flip(-1), x)


def _conv_norm_relu(in_channels: int, out_channels: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]


def _halving_level(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.MaxPool2d(2),
        *_conv_norm_relu(in_channels, out_channels),
        *_conv_norm_relu(out_channels, out_channels),
    ]


def _check_training_set(images: Tensor, labels: Tensor, n_classes: int, batch_size: int) -> None:
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images came with {len(labels)} labels; pass one label per image.")
    if len(images) < batch_size:
        raise ValueError(f"batch_size is {batch_size}, but there are {len(images)} images; use a smaller batch.")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"labels lie in {labels.min().item()}..{labels.max().item()}, but n_classes is {n_classes}; "
            "labels count from 0, so raise n_classes or pass others."
        )

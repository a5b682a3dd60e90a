"""The classifier that judges samples: it learns, repeats itself, and its report counts what it says."""

import pytest
import torch
from torch import nn

from dpi_core.classifier import (
    Classifier,
    ClassifierConfig,
    accuracy,
    class_probabilities,
    recognition,
    train_classifier,
)

SMALL = ClassifierConfig(n_classes=3, channels=(4, 8))


def stripes(n, seed):
    """Noisy 8x8 images of three classes: horizontal stripes, vertical stripes, a checkerboard of both."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=rng)
    alternate = torch.tensor([1.0, -1.0]).repeat(4)
    rows, columns = alternate[:, None].expand(8, 8), alternate[None].expand(8, 8)
    patterns = torch.stack([rows, columns, rows * columns])[:, None]
    return 0.5 * patterns[labels] + 0.3 * torch.randn(n, 1, 8, 8, generator=rng), labels


class Table(nn.Module):
    """Logits are the first row of pixels, so that a test can choose the probabilities."""

    def forward(self, x):
        return x[:, 0, 0]


def table_images(probabilities):
    return torch.tensor(probabilities).log()[:, None, None, :]


def test_training_generalises_to_new_images_and_repeats_by_seed():
    images, labels = stripes(768, seed=0)
    state = torch.random.get_rng_state()
    trained = [train_classifier(images, labels, SMALL, epochs=4, batch_size=64, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is left alone"
    assert accuracy(trained[0], *stripes(300, seed=1)) > 0.95
    weights = [torch.cat([value.flatten() for value in net.state_dict().values()]) for net in trained]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert not trained[0].training


def test_recognition_counts_confident_samples_per_class():
    samples = table_images([[0.85, 0.1, 0.05], [0.1, 0.9, 0.0001], [0.9, 0.05, 0.05], [0.4, 0.3, 0.3]])
    report = recognition(Table(), samples)
    assert report.per_class_counts == (2, 1, 0)
    assert report.classes_used == 2
    assert report.frac_confident == 0.75
    assert report.mean_confidence == pytest.approx((0.85 + 0.9 + 0.9 + 0.4) / 4, abs=1e-4)
    assert recognition(Table(), samples, threshold=0.3).per_class_counts == (3, 1, 0)


def test_accuracy_is_the_share_of_right_labels():
    samples = table_images([[0.85, 0.1, 0.05], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]])
    assert accuracy(Table(), samples, torch.tensor([0, 1, 2])) == pytest.approx(2 / 3)


def test_probabilities_do_not_depend_on_the_split_into_parts():
    net = Classifier(SMALL).eval()
    images, _ = stripes(1001, seed=0)
    together = net(images).softmax(dim=1)
    torch.testing.assert_close(class_probabilities(net, images), together)
    torch.testing.assert_close(together.sum(dim=1), torch.ones(1001))


def test_errors_name_value_and_remedy():
    images, labels = stripes(10, seed=0)
    with pytest.raises(ValueError, match=r"labels lie in 0\.\.2, but n_classes is 2; .* raise n_classes"):
        train_classifier(images, labels, ClassifierConfig(n_classes=2, channels=(4,)), batch_size=5)
    with pytest.raises(ValueError, match="batch_size is 128, but there are 10 images; use a smaller batch"):
        train_classifier(images, labels, SMALL)
    with pytest.raises(ValueError, match="0 samples with threshold 0.8; pass at least one"):
        recognition(Table(), images[:0])
    with pytest.raises(ValueError, match="threshold 1.5"):
        recognition(Table(), images, threshold=1.5)
    with pytest.raises(ValueError, match=r"channels=\(\)\) needs .* a positive width per level"):
        ClassifierConfig(channels=())

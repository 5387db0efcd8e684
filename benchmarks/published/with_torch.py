"""Published recipes that use PyTorch, in float32."""

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler

from benchmarks.published import Trained

PREDICT_BATCH = 500  # images
Batches = Iterator[tuple[Tensor, Tensor]]  # images (N, 1, 28, 28) and labels (N,)


def garment_classifier(
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
) -> Trained:
    """Train the network of the tutorial "Training with PyTorch".

    Source: https://pytorch.org/tutorials/beginner/introyt/trainingyt.html
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), learning_rate, momentum=0.9)
    inputs = standardised(images, 0.5, 0.5)
    for batch, targets in batches(inputs, labels, epochs, batch_size):
        optimize(optimizer, functional.cross_entropy(model(batch), targets))
    return trained(model, 0.5, 0.5)


def fastai_resnet(
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
    epochs: int,
    filters: tuple[int, ...],
    augment: bool = False,
) -> Trained:
    """Train a residual network of fastai's course with one-cycle AdamW.

    Args:
        images: training images.
        labels: their labels.
        seed: random seed.
        epochs: number of epochs.
        filters: number of filters of every residual block.
        augment: whether to move and mirror the images, all images of a batch in the same way.

    Source: https://github.com/fastai/course22p2, nbs/14_augment.ipynb
    """
    torch.manual_seed(seed)

    class Activation(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return functional.leaky_relu(maps, 0.1) - 0.4

    class ResidualBlock(nn.Module):
        def __init__(self, inputs: int, outputs: int, size: int, stride: int) -> None:
            super().__init__()
            self.convolutions = nn.Sequential(
                nn.Conv2d(inputs, outputs, size, padding=size // 2),
                nn.BatchNorm2d(outputs),
                Activation(),
                nn.Conv2d(outputs, outputs, size, stride, padding=size // 2),
                nn.BatchNorm2d(outputs),
            )
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True), nn.Conv2d(inputs, outputs, 1)
            )
            self.activation = Activation()

        def forward(self, maps: Tensor) -> Tensor:
            return self.activation(self.convolutions(maps) + self.shortcut(maps))

    def crop_and_flip(batch: Tensor) -> Tensor:
        down, right = torch.randint(0, 3, (2,)).tolist()
        batch = functional.pad(batch, (1, 1, 1, 1))[:, :, down : down + 28, right : right + 28]
        # For a cropped view, which has other strides, the network would be compiled again.
        return batch.flip(-1) if torch.rand(()) < 0.5 else batch.clone()

    model = nn.Sequential(
        ResidualBlock(1, filters[0], 5, 1),
        *(ResidualBlock(*pair, 3, 2) for pair in itertools.pairwise(filters)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(filters[-1], 10, bias=False),
        nn.BatchNorm1d(10),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=0.1)
    batch_size, peak = 1024, 1e-2
    inputs = standardised(images, 0.28, 0.35)
    compiled, seconds = compile_network(model, inputs[:batch_size])
    optimizer = torch.optim.AdamW(model.parameters(), peak)
    schedule = lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=epochs * math.ceil(len(images) / batch_size)
    )
    for batch, targets in batches(inputs, labels, epochs, batch_size):
        batch = crop_and_flip(batch) if augment else batch
        # Another batch size would be compiled again.
        outputs = compiled(batch) if len(batch) == batch_size else model(batch)
        optimize(optimizer, functional.cross_entropy(outputs, targets), schedule)
    return trained(model, 0.28, 0.35)._replace(not_counted=seconds)


def preactivation_resnet(images: np.ndarray, labels: np.ndarray, seed: int, epochs: int) -> Trained:
    """Train a residual network of 20 layers with pre-activation and random erasing.

    Source: https://github.com/hysts/pytorch_image_classification, results on FashionMNIST
    """
    torch.manual_seed(seed)

    def convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Module:
        layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        return layer

    class ResidualBlock(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int, starts_stage: bool) -> None:
            super().__init__()
            self.starts_stage = starts_stage
            self.first_norm = nn.BatchNorm2d(inputs)
            self.first = convolution(inputs, outputs, stride=stride)
            self.second_norm = nn.BatchNorm2d(outputs)
            self.second = convolution(outputs, outputs)
            is_equal = inputs == outputs
            self.shortcut = nn.Identity() if is_equal else convolution(inputs, outputs, 1, stride)

        def forward(self, maps: Tensor) -> Tensor:
            activated = functional.relu(self.first_norm(maps), inplace=True)
            outputs = self.first(activated)
            outputs = self.second(functional.relu(self.second_norm(outputs), inplace=True))
            return outputs + self.shortcut(activated if self.starts_stage else maps)

    def shift_flip_and_erase(epoch: int) -> Tensor:
        moved = shifted(inputs, 4, "constant", float(inputs.min()))
        count = len(moved)
        mirrored = torch.where(at_random(count, 0.5), moved.flip(-1), moved)
        sides = rectangles(count)
        starts = (torch.rand(count, 2) * (28 - sides)).floor()
        position = torch.arange(28)
        rows, columns = (
            ((starts[:, [axis]] <= position) & (position < (starts + sides)[:, [axis]]))
            for axis in (0, 1)
        )
        erased = rows[:, None, :, None] & columns[:, None, None, :] & at_random(count, 0.5)
        return torch.where(erased, torch.rand(count, 1, 1, 1), mirrored)

    stages = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
    blocks = [
        ResidualBlock(outputs if index else inputs, outputs, 1 if index else stride, not index)
        for inputs, outputs, stride in stages
        for index in range(3)
    ]
    model = nn.Sequential(
        convolution(1, 16),
        *blocks,
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).to(memory_format=torch.channels_last)
    nn.init.zeros_(model[-1].bias)
    inputs, batch_size = standardised(images), 128
    optimizer = torch.optim.SGD(
        model.parameters(), 0.2, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(images) // batch_size))
    for batch, targets in batches(inputs, labels, epochs, batch_size, shift_flip_and_erase, True):
        optimize(optimizer, functional.cross_entropy(model(batch), targets), schedule)
    return trained(model)


def airbench94(
    images: np.ndarray, labels: np.ndarray, seed: int, epochs: float, width: int
) -> Trained:
    """Train the network of airbench94, adapted to one channel, with its recipe.

    Args:
        images: training images.
        labels: their labels.
        seed: random seed.
        epochs: number of epochs; the last one may be a part of an epoch.
        width: number of filters of the first block; 64 in the original.

    Source: https://github.com/KellerJordan/cifar10-airbench, airbench94.py; arXiv 2404.00498
    """
    torch.manual_seed(seed)

    class Scale(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values / 9

    def convolution(inputs: int, outputs: int) -> nn.Module:
        layer = nn.Conv2d(inputs, outputs, 3, padding="same", bias=False)
        nn.init.dirac_(layer.weight.data[:inputs])
        return layer

    def batch_norm(filters: int) -> nn.Module:
        layer = nn.BatchNorm2d(filters, eps=1e-12, momentum=0.4)
        layer.weight.requires_grad = False
        return layer

    def group(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            convolution(inputs, outputs),
            nn.MaxPool2d(2),
            batch_norm(outputs),
            nn.GELU(),
            convolution(outputs, outputs),
            batch_norm(outputs),
            nn.GELU(),
        ]

    inputs = standardised(images)
    whitening = nn.Conv2d(1, 8, 2)
    # The eigenvectors of the covariance of 2 × 2 patches, each also with the opposite sign.
    patches = functional.unfold(inputs[:5000], 2).transpose(1, 2).reshape(-1, 4)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / torch.sqrt(values + 5e-4)).T.reshape(4, 1, 2, 2)
    whitening.weight.data = torch.cat((filters, -filters))
    whitening.weight.requires_grad = False
    nn.init.zeros_(whitening.bias)
    model = nn.Sequential(
        whitening,
        nn.GELU(),
        *group(8, width),
        *group(width, 4 * width),
        *group(4 * width, 4 * width),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(4 * width, 10, bias=False),
        Scale(),
    ).to(memory_format=torch.channels_last)

    # Learning rate and weight decay are given per 1,024 images; a step with Nesterov momentum has
    # the length of 1 + 1 / (1 - momentum) gradients.
    batch_size, momentum = 1024, 0.85
    scale = 1024 * (1 + 1 / (1 - momentum))
    rate, decay = 11.5 / scale, 0.0153 * batch_size / scale
    norms = [module for module in model if isinstance(module, nn.BatchNorm2d)]
    biases = [norm.bias for norm in norms]
    others = [weight for weight in model.parameters() if weight.requires_grad]
    others = [weight for weight in others if all(weight is not bias for bias in biases)]
    optimizer = torch.optim.SGD(
        [
            {"params": biases, "lr": 64 * rate, "weight_decay": decay / (64 * rate)},
            {"params": others, "lr": rate, "weight_decay": decay / rate},
        ],
        momentum=momentum,
        nesterov=True,
    )
    steps_per_epoch = len(images) // batch_size
    steps = math.ceil(epochs * steps_per_epoch)
    peak = int(0.23 * steps)
    schedule = lr_scheduler.LambdaLR(
        optimizer, lambda step: float(np.interp(step, (0, peak, steps), (0.2, 1, 0.07)))
    )
    mirrored = torch.where(at_random(len(inputs), 0.5), inputs.flip(-1), inputs)

    def shift_and_flip(epoch: int) -> Tensor:
        moved = shifted(mirrored, 2, "reflect")
        return moved.flip(-1) if epoch % 2 else moved  # every image is mirrored every second epoch

    average = []
    steps_with_batches = enumerate(
        itertools.islice(
            batches(inputs, labels, math.ceil(epochs), batch_size, shift_and_flip, True), steps
        ),
        start=1,
    )
    for step, (batch, targets) in steps_with_batches:
        past_start = step > 3 * steps_per_epoch
        whitening.bias.requires_grad = not past_start
        loss = functional.cross_entropy(model(batch), targets, label_smoothing=0.2, reduction="sum")
        optimize(optimizer, loss, schedule)
        ends_epoch = step % steps_per_epoch == 0 or step == steps
        if past_start and (step % 5 == 0 or ends_epoch):
            # Average the weights, more slowly towards the end, and continue from the average.
            state = [value for value in model.state_dict().values() if value.is_floating_point()]
            average = average or [value.clone() for value in state]
            new = 1 - 0.95**5 * (step / steps) ** 3 if step % 5 == 0 else 0.0
            for mean, value in zip(average, state, strict=True):
                value.copy_(mean.lerp_(value, new))
    return trained(model)


def compile_network(model: nn.Module, batch: Tensor) -> tuple[nn.Module, float]:
    """Return a compiled network that shares the weights, and the seconds of the compilation.

    Only the networks of fastai train faster when compiled.

    Args:
        model: the network.
        batch: images of the batch size to compile for.
    """
    begin = time.perf_counter()
    before = copy.deepcopy(model.state_dict())
    compiled = torch.compile(model)
    compiled(batch).sum().backward()
    model.load_state_dict(before)
    return compiled, time.perf_counter() - begin


def standardised(images: np.ndarray, mean: float = 0.286, std: float = 0.353) -> Tensor:
    """Return images (N, 28, 28, 1) in [0, 1] as a tensor (N, 1, 28, 28), standardised."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2) - mean) / std


def batches(
    inputs: Tensor,
    labels: np.ndarray,
    epochs: int,
    batch_size: int,
    augment: Callable[[int], Tensor] | None = None,
    drop_last: bool = False,
) -> Batches:
    """Return the batches of all epochs, in a new random order in every epoch.

    Args:
        inputs: images (N, 1, 28, 28).
        labels: labels (N,).
        epochs: number of epochs.
        batch_size: number of images of a batch.
        augment: function that returns the augmented images of an epoch, given its number from 0.
        drop_last: whether to leave out the last batch of an epoch if it is smaller.
    """
    targets = torch.from_numpy(labels)
    for epoch in range(epochs):
        augmented = augment(epoch) if augment else inputs
        for indices in torch.randperm(len(targets)).split(batch_size):
            if len(indices) == batch_size or not drop_last:
                yield augmented[indices], targets[indices]


def optimize(
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    schedule: lr_scheduler.LRScheduler | None = None,
) -> None:
    """Perform one step of the optimizer and of the schedule of the learning rate."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if schedule:
        schedule.step()


def at_random(count: int, probability: float) -> Tensor:
    """Return (count, 1, 1, 1) booleans that are true with a probability."""
    return torch.rand(count, 1, 1, 1) < probability


def rectangles(count: int) -> Tensor:
    """Return random heights and widths (count, 2) in pixels, from 2 to 40 % of the image."""
    area = 28**2 * torch.empty(count).uniform_(0.02, 0.4)
    aspect = torch.empty(count).uniform_(0.3, 1 / 0.3)
    sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1).floor()
    too_large = (sides > 27).any(1)
    if too_large.any():
        sides[too_large] = rectangles(int(too_large.sum()))
    return sides


def shifted(images: Tensor, reach: int, mode: str, value: float = 0.0) -> Tensor:
    """Return images (N, 1, 28, 28), each moved at random by up to `reach` pixels.

    Args:
        images: the images.
        reach: largest movement in pixels, in both directions.
        mode: what the border is filled with, see torch.nn.functional.pad.
        value: value of the border for the mode "constant".
    """
    options = {"value": value} if mode == "constant" else {}
    padded = functional.pad(images, (reach,) * 4, mode, **options)
    result = torch.empty_like(images)
    down, right = torch.randint(0, 2 * reach + 1, (2, len(images)))
    for y, x in itertools.product(range(2 * reach + 1), repeat=2):
        chosen = (down == y) & (right == x)
        result[chosen] = padded[chosen, :, y : y + 28, x : x + 28]
    return result


def trained(model: nn.Module, mean: float = 0.286, std: float = 0.353) -> Trained:
    """Return a trained network for the prediction of images that are standardised as given."""

    def predict(images: np.ndarray) -> np.ndarray:
        model.eval()
        with torch.inference_mode():
            parts = standardised(images, mean, std).split(PREDICT_BATCH)
            return torch.cat([model(part).softmax(1) for part in parts]).numpy()

    count = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return Trained(predict, count)

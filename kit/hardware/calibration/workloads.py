"""Reference workloads: small models that train as submissions do, one step at a time.

They cover what a field of submissions is made of: convolutions, depthwise convolutions, attention, products with large
weights, recurrence, and steps too small to fill the device. On a GPU each is measured in a large size too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit.hardware.calibration.settings import TORCH_DTYPES
from kit.hardware.profile import DtypeName
from kit.protocol import Counted
from kit.results.record import OperatorFlops
from kit.trainer.counting import Phases, counting
from kit.trainer.flops import OperatorCounter

Step = Callable[[], object]

COUNTED_STEPS = 3


class Workload(Protocol):
    """Anything that can make a training step: a study adds its own."""

    @property
    def name(self) -> str:
        """Of the workload, in profiles."""

    def make(self, dtype: DtypeName, device: torch.device, *, compiled: bool = False) -> Step:
        """A step with its model, data and optimizer. The dtypes of 16 bits are autocast's."""


@dataclass(frozen=True)
class Classifier:
    """A workload that tells classes apart, trained by SGD with momentum or AdamW.

    Args:
        name: Of the workload.
        model: Makes the model.
        inputs: Makes a batch of inputs, on the CPU.
        classes: How many there are.
        adam: AdamW instead of SGD.
    """

    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    classes: int = 10
    adam: bool = False

    def make(self, dtype: DtypeName, device: torch.device, *, compiled: bool = False) -> Step:
        """A step on random data from a fixed seed."""
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            model = self.model().to(device)
            inputs = self.inputs().to(device)
            labels = torch.randint(self.classes, inputs.shape[:1]).to(device)
        optimizer: torch.optim.Optimizer
        if self.adam:
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        else:
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        forward = torch.compile(model) if compiled else model
        precision = TORCH_DTYPES[dtype]
        autocast = precision != torch.float32

        def step() -> None:
            with torch.autocast(device.type, precision, enabled=autocast):
                scores = forward(inputs)
            F.cross_entropy(scores.float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step


def operators_of(step: Step, device: torch.device) -> tuple[OperatorFlops, ...]:
    """What one step does, as a record of it would say. A compiled step is counted as the eager one it stands for.

    Times inside operators are those of the quickest of some steps; the first takes time for what happens once.
    """
    step()
    counts = [_count(step, device) for _ in range(COUNTED_STEPS)]
    quickest = min(counts, key=lambda counted: sum(row.busy_s or 0.0 for row in counted.operators))
    return tuple(
        OperatorFlops(
            operator_class=row.operator_class,
            dtype=row.dtype,
            phase=row.phase,
            backward=row.backward,
            calls=row.calls,
            flops_per_call=row.flops / row.calls,
            bytes_per_call=row.bytes / row.calls,
            busy_s=row.busy_s,
        )
        for row in quickest.operators
    )


def _count(step: Step, device: torch.device) -> Counted:
    phases = Phases(OperatorCounter(device))
    with counting(phases), phases.active():
        step()
    return phases.counted()


# ---- models


def _unit(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.layers(inputs)
        return inputs + out


def _head(channels: int) -> Sequence[nn.Module]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)


def residual_cnn(width: int) -> nn.Module:
    """Convolutions of three by three with shortcuts."""
    return nn.Sequential(
        _unit(3, width),
        _unit(width, 2 * width),
        nn.MaxPool2d(2),
        _Residual(_unit(2 * width, 2 * width), _unit(2 * width, 2 * width)),
        _unit(2 * width, 4 * width),
        nn.MaxPool2d(2),
        _Residual(_unit(4 * width, 4 * width), _unit(4 * width, 4 * width)),
        *_head(4 * width),
    )


def _inverted(inputs: int, outputs: int, stride: int) -> nn.Module:
    inner = 4 * inputs
    layers = (
        _unit(inputs, inner, 1),
        _unit(inner, inner, 3, stride, inner),
        nn.Conv2d(inner, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )
    return _Residual(*layers) if stride == 1 and inputs == outputs else nn.Sequential(*layers)


def depthwise_cnn(width: int) -> nn.Module:
    """Depthwise convolutions between narrowing and widening ones."""
    return nn.Sequential(
        _unit(3, width, 3, 2),
        _inverted(width, width, 1),
        _inverted(width, 2 * width, 2),
        _inverted(2 * width, 2 * width, 1),
        _inverted(2 * width, 4 * width, 2),
        *_head(4 * width),
    )


class _Block(nn.Module):
    """Attention and two linear layers, normalised before."""

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        batch, tokens, width = inputs.shape
        projected = self.project(self.norm(inputs)).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        inputs = inputs + self.out(attended.transpose(1, 2).reshape(inputs.shape))
        out: Tensor = inputs + self.feed(inputs)
        return out


class VisionTransformer(nn.Module):
    """Patches of four by four pixels, blocks, the mean of all tokens."""

    def __init__(self, width: int, depth: int, heads: int, size: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.positions = nn.Parameter(0.02 * torch.randn(1, (size // 4) ** 2, width))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Scores by class."""
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        scores: Tensor = self.head(self.blocks(tokens).mean(1))
        return scores


class EmbeddingMlp(nn.Module):
    """Large weights, few rows: a table looked up, and a multilayer perceptron."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, 64)
        self.layers = nn.Sequential(
            nn.Linear(16 * 64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
        )

    def forward(self, indices: Tensor) -> Tensor:
        """Scores by class."""
        scores: Tensor = self.layers(self.table(indices).flatten(1))
        return scores


class Recurrent(nn.Module):
    """An LSTM, of which the last state is read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(500, width)
        self.layers = nn.LSTM(width, width, 2, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, indices: Tensor) -> Tensor:
        """Scores by class."""
        scores: Tensor = self.head(self.layers(self.table(indices))[0][:, -1])
        return scores


class _ChannelNorm(nn.Module):
    """LayerNorm over the channels of images."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.norm(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


def convnext(width: int) -> nn.Module:
    """Depthwise convolutions of seven by seven, layer norm, GELU."""

    def block() -> nn.Module:
        spread = nn.Conv2d(width, width, 7, padding=3, groups=width)
        feed = (nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1))
        return _Residual(spread, _ChannelNorm(width), *feed)

    return nn.Sequential(nn.Conv2d(3, width, 4, 4), *(block() for _ in range(3)), *_head(width))


def bottleneck_cnn(width: int) -> nn.Module:
    """Convolutions in groups between narrow ones, and one transposed."""

    def block(channels: int) -> nn.Module:
        return _Residual(
            _unit(channels, channels // 2, 1),
            _unit(channels // 2, channels // 2, groups=4),
            _unit(channels // 2, channels, 1),
        )

    return nn.Sequential(
        *(_unit(3, width, 3, 2), block(width), block(width)),
        *(_unit(width, 2 * width, 3, 2), block(2 * width)),
        nn.ConvTranspose2d(2 * width, width, 2, 2),
        *_head(width),
    )


class LanguageModel(nn.Module):
    """Tokens through blocks to scores of every word of the last place."""

    def __init__(self, words: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.blocks = nn.Sequential(*(_Block(width, heads, causal=True) for _ in range(depth)))
        self.head = nn.Linear(width, words)

    def forward(self, indices: Tensor) -> Tensor:
        """Scores by word, the mean over all places."""
        scores: Tensor = self.head(self.blocks(self.table(indices))).mean(1)
        return scores


def wide_mlp(width: int) -> nn.Module:
    """Weights that do not fit a cache."""
    layers = (nn.Linear(3072, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    return nn.Sequential(nn.Flatten(), *layers)


def tiny_cnn() -> nn.Module:
    """Many operators with next to nothing to do."""
    return nn.Sequential(_unit(3, 8), _unit(8, 8), *(_Residual(_unit(8, 8), _unit(8, 8)) for _ in range(3)), *_head(8))


def _images(batch: int, size: int = 32) -> Callable[[], Tensor]:
    return lambda: torch.randn(batch, 3, size, size)


def _words(batch: int, length: int, below: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(below, (batch, length))


SMALL: tuple[Workload, ...] = (
    Classifier("cnn", lambda: residual_cnn(16), _images(16)),
    Classifier("depthwise_cnn", lambda: depthwise_cnn(16), _images(16)),
    Classifier("vit", lambda: VisionTransformer(128, 3, 4), _images(8), adam=True),
    Classifier("embedding_mlp", lambda: EmbeddingMlp(2000, 512), _words(64, 16, 2000)),
    Classifier("convnext", lambda: convnext(32), _images(8, 64), adam=True),
    Classifier("bottleneck_cnn", lambda: bottleneck_cnn(48), _images(16)),
    Classifier("language_model", lambda: LanguageModel(1000, 128, 2, 4), _words(4, 64, 1000), 1000, adam=True),
    Classifier("wide_mlp", lambda: wide_mlp(1024), _images(16)),
    Classifier("lstm", lambda: Recurrent(96), _words(16, 24, 500), adam=True),
    Classifier("tiny_cnn", tiny_cnn, _images(4, 8)),
)
LARGE: tuple[Workload, ...] = (
    Classifier("cnn_large", lambda: residual_cnn(64), _images(512)),
    Classifier("depthwise_cnn_large", lambda: depthwise_cnn(48), _images(512)),
    Classifier("vit_large", lambda: VisionTransformer(512, 6, 8), _images(256), adam=True),
    Classifier("embedding_mlp_large", lambda: EmbeddingMlp(100_000, 4096), _words(1024, 16, 100_000)),
    Classifier("lstm_large", lambda: Recurrent(512), _words(128, 64, 500), adam=True),
)
COMPILED = ("cnn", "vit", "cnn_large", "vit_large")
"""Those that are measured compiled too, while there is time for the compiler."""


def reference_workloads(device: torch.device) -> tuple[Workload, ...]:
    """What is measured on this kind of device."""
    return SMALL + LARGE if device.type == "cuda" else SMALL

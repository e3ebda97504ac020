"""Training steps that no calibration has seen: what the study of the normalization predicts.

Each is of a kind that people race (convolutions plain, grouped and depthwise, attention, embeddings, recurrence, tiny
nets), in shapes of its own.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kit.hardware.calibration.settings import TORCH_DTYPES
from kit.hardware.calibration.workloads import Step
from kit.hardware.profile import DtypeName

Inputs = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class HeldOut:
    """A model, its batch and its optimizer."""

    name: str
    model: Callable[[], nn.Module]
    batch: Callable[[], Inputs]
    optimizer: str = "SGD"

    def make(self, dtype: DtypeName, device: torch.device, *, compiled: bool = False) -> Step:
        """A step on random data from a fixed seed, as reference workloads make theirs."""
        torch.manual_seed(0)
        model = self.model().to(device)
        inputs, labels = (tensor.to(device) for tensor in self.batch())
        optimizer: torch.optim.Optimizer
        if self.optimizer == "AdamW":
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        else:
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        forward = torch.compile(model) if compiled else model
        precision = TORCH_DTYPES[dtype]

        def step() -> None:
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                scores = forward(inputs)
            F.cross_entropy(scores.float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step


def images(count: int, side: int = 32, channels: int = 3) -> Callable[[], Inputs]:
    """Random images of ten classes."""
    return lambda: (torch.randn(count, channels, side, side), torch.randint(10, (count,)))


def tokens(count: int, length: int, vocabulary: int, *, classes: int | None = None) -> Callable[[], Inputs]:
    """Random sequences; labels per sequence, or the next token of each place."""

    def make() -> Inputs:
        text = torch.randint(vocabulary, (count, length + 1))
        return text[:, :-1], text[:, 1:].flatten() if classes is None else torch.randint(classes, (count,))

    return make


def conv(into: int, out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, norm and activation."""
    layer = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out), nn.SiLU(inplace=True))


class Residual(nn.Module):
    """A body with a shortcut around it."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        """Body and shortcut."""
        return x + self.body(x)  # type: ignore[no-any-return]


class ChannelsLastNorm(nn.Module):
    """LayerNorm over the channels of images."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Over dimension 1."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class Block(nn.Module):
    """A transformer block."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Attention, then the MLP."""
        count, length, width = x.shape
        qkv = self.qkv(self.norms[0](x)).view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=self.causal)
        x = x + self.out(attended.transpose(1, 2).reshape(count, length, width))
        return x + self.mlp(self.norms[1](x))  # type: ignore[no-any-return]


class LanguageModel(nn.Module):
    """Predicts the next token everywhere."""

    def __init__(self, vocabulary: int, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.Sequential(*(Block(width, heads, causal=True) for _ in range(blocks)))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, text: Tensor) -> Tensor:
        """Scores, one row per place."""
        return self.head(self.blocks(self.embedding(text))).flatten(0, 1)  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Patches through transformer blocks."""

    def __init__(self, width: int, blocks: int, heads: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.Sequential(*(Block(width, heads, causal=False) for _ in range(blocks)))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores from the mean of all places."""
        return self.head(self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """Reads a sequence, then classifies."""

    def __init__(self, kind: type[nn.LSTM], vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 96)
        self.layers = kind(96, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, text: Tensor) -> Tensor:
        """Scores from the last place."""
        return self.head(self.layers(self.embedding(text))[0][:, -1])  # type: ignore[no-any-return]


class Recommender(nn.Module):
    """Many small look-ups, then an MLP."""

    def __init__(self, tables: int, rows: int, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, width) for _ in range(tables))
        self.mlp = nn.Sequential(nn.Linear(tables * width, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, items: Tensor) -> Tensor:
        """Scores; one column of `items` per table."""
        looked_up = [table(items[:, column]) for column, table in enumerate(self.tables)]
        return self.head(self.mlp(torch.cat(looked_up, 1)))  # type: ignore[no-any-return]


def head(channels: int) -> list[nn.Module]:
    """From feature maps to scores."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def _vgg() -> nn.Module:
    return nn.Sequential(
        *(conv(3, 48), conv(48, 48), nn.MaxPool2d(2)),
        *(conv(48, 96), conv(96, 96), nn.MaxPool2d(2)),
        *(conv(96, 192), conv(192, 192), *head(192)),
    )


def _bottlenecks() -> nn.Module:
    def block(width: int) -> nn.Module:
        return Residual(conv(width, width // 4, 1), conv(width // 4, width // 4), conv(width // 4, width, 1))

    return nn.Sequential(
        conv(3, 64), block(64), block(64), conv(64, 128, 3, 2), block(128), block(128), conv(128, 256, 3, 2), *head(256)
    )


def _grouped() -> nn.Module:
    def block(width: int) -> nn.Module:
        return Residual(conv(width, width, 1), conv(width, width, 3, groups=8), conv(width, width, 1))

    return nn.Sequential(conv(3, 64, 3, 2), block(64), block(64), conv(64, 128, 3, 2), block(128), *head(128))


def _mobile() -> nn.Module:
    def block(width: int) -> nn.Module:
        wide = 3 * width
        return Residual(conv(width, wide, 1), conv(wide, wide, 5, groups=wide), nn.Conv2d(wide, width, 1))

    return nn.Sequential(conv(3, 32, 3, 2), block(32), conv(32, 48, 3, 2), block(48), block(48), *head(48))


def _convnext() -> nn.Module:
    def block(width: int) -> nn.Module:
        depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        mlp = [nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1)]
        return Residual(depthwise, ChannelsLastNorm(width), *mlp)

    return nn.Sequential(nn.Conv2d(3, 40, 4, 4), block(40), block(40), nn.Conv2d(40, 80, 2, 2), block(80), *head(80))


def _autoencoder() -> nn.Module:
    return nn.Sequential(
        *(conv(3, 32, 3, 2), conv(32, 64, 3, 2)),
        *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU()),
        *head(16),
    )


def _mlp(*widths: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for into, out in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def _small_cnn() -> nn.Module:
    return nn.Sequential(conv(1, 16), Residual(conv(16, 16)), nn.MaxPool2d(2), conv(16, 32), *head(32))


HELD_OUT = (
    HeldOut("VGG, 24 images", _vgg, images(24)),
    HeldOut("bottleneck ResNet, 16 images", _bottlenecks, images(16)),
    HeldOut("grouped ResNet, 16 images", _grouped, images(16)),
    HeldOut("inverted bottlenecks, 5x5 depthwise, 16 images", _mobile, images(16)),
    HeldOut("ConvNeXt, 7x7 depthwise, 16 images", _convnext, images(16, 64), "AdamW"),
    HeldOut("autoencoder, transposed convolutions, 32 images", _autoencoder, images(32)),
    HeldOut("MLP, 192 images", lambda: _mlp(3072, 768, 768, 10), images(192)),
    HeldOut("wide MLP, 8 images", lambda: _mlp(3072, 1536, 1536, 10), images(8)),
    HeldOut("language model, 4 x 96 tokens", lambda: LanguageModel(2000, 160, 3, 5), tokens(4, 96, 2000), "AdamW"),
    HeldOut("ViT, 12 images", lambda: VisionTransformer(144, 3, 3, 4), images(12), "AdamW"),
    HeldOut("LSTM, 24 x 48 tokens", lambda: Recurrent(nn.LSTM, 800, 160), tokens(24, 48, 800, classes=10)),
    HeldOut("recommender, 256 rows", lambda: Recommender(12, 5000, 24), tokens(256, 12, 5000, classes=10)),
    HeldOut("small CNN, 50 images of 8x8", _small_cnn, images(50, 8, 1)),
)

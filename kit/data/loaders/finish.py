"""The last step of the torch loaders."""

import torch

from kit.data.augment import LoaderOptions
from kit.track import DatasetSpec


class Finish:
    """From uint8 images (N, C, H, W) on the device to normalised ones of the type and layout asked for."""

    def __init__(self, spec: DatasetSpec, options: LoaderOptions, device: torch.device) -> None:
        self._mean = 255 * torch.tensor(spec.mean, device=device).view(-1, 1, 1)
        self._inverse_std = 1 / (255 * torch.tensor(spec.std, device=device).view(-1, 1, 1))
        self._dtype: torch.dtype = getattr(torch, options.dtype)
        self._layout = torch.channels_last if options.channels_last else torch.contiguous_format

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """A new tensor."""
        normalised = (images.float() - self._mean) * self._inverse_std
        return normalised.to(self._dtype).contiguous(memory_format=self._layout)

"""Makes a BasicSR data set say which files it could not load."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

__all__ = ["NamedSamples"]


class NamedSamples(Dataset):
    """Data set whose errors name the sample and its files.

    BasicSR's decoder returns None for a file that is no image, and what fails then is an attribute of None.

    Args:
        dataset: The data set to wrap; its attributes remain readable.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.load(index)

    def load(self, index: int) -> Any:
        """Sample of the wrapped data set.

        Raises:
            RuntimeError: It cannot be loaded; the message has index, files and cause.
        """
        try:
            return self.dataset[index]
        except IndexError:
            raise
        except Exception as error:
            raise RuntimeError(
                f"cannot load sample {index} of {type(self.dataset).__name__}, {self._files(index)}: missing or not a "
                f"readable image? ({type(error).__name__}: {error})"
            ) from error

    def _files(self, index: int) -> str:
        paths = getattr(self.dataset, "paths", ())
        return f"files {paths[index]}" if index < len(paths) else "files unknown"

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)

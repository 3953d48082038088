"""Restoration of a picture of any size, in overlapping tiles and bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeVar, cast

import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..layers.routing.routing import Routing
from ..ops.checks import check_choice, check_positive
from ..ops.padding import pad_to_multiple
from .network import channels_of, evaluating, final_image
from .pictures import Picture, wrap_picture
from .tiles import blend_tiles, check_tiles, tile_spans

__all__ = ["restore", "route_picture"]

_Image = TypeVar("_Image", Tensor, npt.NDArray[Any])
_HALF = (torch.float16, torch.bfloat16)
_ROUTED_SIDE = 256  # pixels; from parts of 128 the routing differs from that by the whole picture twice as much,
_ROUTED_PIXELS = 2**20  # from 4 parts of 256 ten times as much, from more than 16 no less


def restore(
    net: nn.Module,
    image: _Image,
    *,
    tile: int = 512,
    overlap: int = 32,
    routing: Literal["global", "tile"] | Sequence[Routing] = "global",
    size_multiple: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> _Image:
    """Restore a picture of any size and return it in the kind in which it came.

    The picture is cut into overlapping tiles, each is restored alone, and the results fade into each other by raised
    cosines. One that is no larger than a tile is restored as a whole, exactly as by the network itself. Beside the
    picture and the result, memory holds what the network needs for one tile, and two rows of tiles in float32.

    Channel attention, pooled kernels and spectra see one tile instead of the whole picture, so the result differs a
    little from that for the whole. Routing would differ most: neighboring tiles could run different experts. So a
    :class:`ClusIR` is first asked for one routing of the whole picture, from up to 16 parts of 256 pixels spread evenly
    over it, and all tiles use it.

    Args:
        net: any network from ``(B, C, h, w)`` to an image of the same size or a whole multiple of it, or to a sequence
            of such images, the final one first. It runs in evaluation mode and is left as it was.
        image: RGB or gray, numpy ``H x W x C`` or ``H x W``, or a tensor ``(C, H, W)`` or ``(B, C, H, W)``; uint8,
            uint16, or floating point in [0, 1]. Integer results are rounded and clipped, others are as the network
            gives them. Gray goes through a network for 3 channels as three equal ones, and the mean comes back; a
            network without an attribute ``in_channels`` is taken to be for 3.
        tile: longest side of a tile, pixels; best a multiple of the network's ``size_multiple``.
        overlap: pixels that neighbors share at least, in [0, tile).
        routing: "global" as above; "tile" lets each tile choose its own experts, for degradations that vary across the
            picture; or routings of ``net.route``, for the frames of a video. A network without routing has none.
        size_multiple: sides that the network accepts; tiles are extended by reflection. Default: the attribute
            ``size_multiple`` of the network, or 1.
        dtype: ``torch.float16`` or ``torch.bfloat16`` to run under autocast; default: as the weights are.
        device: where to run; the network is moved there and back. Default: where the network is.
        progress: show a progress bar once the work has taken a second.

    Returns:
        The restored picture, of the kind, element type and device of ``image``.

    Raises:
        TypeError: ``image`` is of no supported kind, an option has a wrong type, or ``net`` returns no image.
        ValueError: an option is out of range, the shape of ``image`` does not fit, a value of it is not finite, or
            ``device`` is not at hand.
        FloatingPointError: the network returned a value that is not finite, as may happen with ``torch.float16``.

    Example:
        >>> import numpy as np
        >>> from clusir_modules import clusir_tiny
        >>> restore(clusir_tiny(), np.zeros((40, 60, 3), np.uint8), tile=32, overlap=8).shape
        (40, 60, 3)
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    check_tiles(tile, overlap)
    _check_routing(routing, net)
    if dtype is not None and dtype not in _HALF:
        raise ValueError(f"dtype must be torch.float16, torch.bfloat16 or None, got {dtype}")
    multiple: int = getattr(net, "size_multiple", 1) if size_multiple is None else size_multiple
    check_positive("size_multiple", multiple)
    picture = wrap_picture(image)
    rows, columns = (tile_spans(length, tile, overlap, multiple) for length in (picture.height, picture.width))
    with _borrowed(net, device) as (place, weight_dtype), _autocast(place, dtype), torch.no_grad():
        tiles = _Tiles(net, picture, multiple, place, weight_dtype)
        with _progress_bar(len(rows) * len(columns), progress) as bar:
            if not isinstance(routing, str):
                tiles.routings = routing
            elif routing == "global" and hasattr(net, "route_parts") and len(rows) * len(columns) > 1:
                tiles.routings = cast(Any, net).route_parts(tiles.read_parts(min(tile, _ROUTED_SIDE)))

            def run(row: slice, column: slice) -> Tensor:
                result = tiles.run(row, column)
                bar.update()
                return result

            start = 0
            for band in blend_tiles(run, rows, columns):
                picture.write(start, band)
                start += band.shape[2]
    return picture.result()


def route_picture(
    net: nn.Module,
    image: Tensor | npt.NDArray[Any],
    *,
    tile: int = 512,
    size_multiple: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[Routing, ...]:
    """Routings of a picture as a whole, as :func:`restore` takes them for all of its tiles; arguments as there.

    Raises:
        TypeError: ``net`` has no routing, or ``image`` is of no supported kind.
        ValueError: the shape of ``image`` does not fit, or a value of it is not finite.
    """
    if not hasattr(net, "route_parts"):
        raise TypeError(f"net must have routing, got {type(net).__name__}, which has none")
    multiple: int = getattr(net, "size_multiple", 1) if size_multiple is None else size_multiple
    with _borrowed(net, device) as (place, weight_dtype), _autocast(place, dtype), torch.no_grad():
        tiles = _Tiles(net, wrap_picture(image), multiple, place, weight_dtype)
        routings: tuple[Routing, ...] = cast(Any, net).route_parts(tiles.read_parts(min(tile, _ROUTED_SIDE)))
    return routings


def _check_routing(routing: str | Sequence[Routing], net: nn.Module) -> None:
    if isinstance(routing, str):
        check_choice("routing", routing, ("global", "tile"))
    elif not isinstance(routing, Sequence):
        raise TypeError(f'routing must be "global", "tile" or routings of net.route, got {type(routing).__name__}')
    elif not hasattr(net, "route_parts"):
        raise TypeError(f'routing must be "global" or "tile" for {type(net).__name__}, which has no routing')


@contextmanager
def _borrowed(net: nn.Module, device: torch.device | str | None) -> Iterator[tuple[torch.device, torch.dtype]]:
    """Put the network in evaluation mode on a device, name that and the type of the weights, and put all back."""
    weight = next((weight for weight in net.parameters() if weight.is_floating_point()), torch.empty(0))
    home = weight.device
    place = home if device is None else _find_device(device)
    with evaluating(net):
        try:
            if place != home:
                net.to(place)
            yield place, weight.dtype
        finally:
            if place != home:
                net.to(home)


def _find_device(device: torch.device | str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError) as error:  # the first from a build without CUDA
        raise ValueError(f"device must be at hand, got {device!r}: {error}") from error


def _autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def _progress_bar(total: int, shown: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit="tile", delay=1, leave=False, disable=not shown)


def _check_image(output: Tensor, x: Tensor) -> Tensor:
    """Return what a network made of ``x`` if it is an image."""
    scale = output.shape[-1] // x.shape[-1]
    sizes = (x.shape[2] * scale, x.shape[3] * scale)
    if output.dim() != 4 or output.shape[0] != x.shape[0] or scale < 1 or output.shape[2:] != sizes:
        raise ValueError(
            f"net must return images of the size of its input or a whole multiple, "
            f"got {tuple(output.shape)} for {tuple(x.shape)}"
        )
    if not torch.isfinite(output).all():
        raise FloatingPointError(f"net returned a value that is not finite, in {output.dtype}")
    return output


class _Tiles:
    """The tiles of a picture and their results."""

    def __init__(
        self, net: nn.Module, picture: Picture, multiple: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        wanted = channels_of(net)
        self._gray = picture.channels == 1 and wanted in (None, 3)
        if not self._gray and wanted not in (None, picture.channels):
            raise ValueError(f"image must be gray or of {wanted} channels, got {picture.channels}")
        self._net = net
        self._picture = picture
        self._multiple = multiple
        self._device = device
        self._dtype = dtype
        self.routings: Sequence[Routing] | None = None

    def read(self, row: slice, column: slice) -> Tensor:
        x = self._picture.read(row, column, self._device, self._dtype)
        if not torch.isfinite(x).all():
            raise ValueError(
                f"image must be finite, got another value in rows {row.start} to {row.stop - 1}, "
                f"columns {column.start} to {column.stop - 1}"
            )
        return x.expand(-1, 3, -1, -1) if self._gray else x

    def read_parts(self, side: int) -> list[Tensor]:
        """Parts of one size, spread evenly: all of a small picture, at most a certain number of pixels of a large one.

        Args:
            side: longest side of a part, pixels.
        """
        lengths = (self._picture.height, self._picture.width)
        counts = [math.ceil(length / side) for length in lengths]
        while math.prod(counts) > max(_ROUTED_PIXELS // side**2, 1):
            counts[counts.index(max(counts))] -= 1
        rows, columns = (_spread(length, count, side, self._multiple) for length, count in zip(lengths, counts))
        return [self.read(row, column) for row in rows for column in columns]

    def run(self, row: slice, column: slice) -> Tensor:
        x = self.read(row, column)
        padded = pad_to_multiple(x, self._multiple)
        options = {} if self.routings is None else {"routings": self.routings}
        y = _check_image(final_image(self._net(padded, **options)), padded)
        scale = y.shape[3] // padded.shape[3]
        y = y[..., : x.shape[2] * scale, : x.shape[3] * scale]
        return y.mean(dim=1, keepdim=True) if self._gray else y


def _spread(length: int, count: int, side: int, multiple: int) -> list[slice]:
    """``count`` spans of one size over ``length`` pixels: covering it, or as long as ``side``."""
    size = min(math.ceil(math.ceil(length / count) / multiple) * multiple, side, length)
    centered = (round((number + 0.5) / count * length - size / 2) for number in range(count))
    return [slice(start, start + size) for start in (min(max(start, 0), length - size) for start in centered)]

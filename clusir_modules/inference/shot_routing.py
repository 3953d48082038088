"""Routing of a video: decided anew at a cut, eased in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..layers.routing.routing import Routing, choose_experts

__all__ = ["ShotRouting", "ease"]

_SIDE = 16  # of the thumbnails that are compared
_CUT = 0.1  # mean difference of the thumbnails of two frames, in [0, 1]
_EVERY = 8  # frames
_SHARE = 0.25  # of the newest decision


def ease(before: Routing, now: Routing, share: float = _SHARE) -> Routing:
    """Move a routing towards a new one: ``(1 - share) * before + share * now``.

    Probabilities and prompts, which are linear in them, are averaged, and what the experts weigh together; the experts
    are chosen from the result, as many as before. Logits, which are not linear, are left out.

    Args:
        before: what was decided so far.
        now: the new decision, for the same number of images.
        share: of ``now`` in the result, in [0, 1].
    """
    clusters, experts, prompt = (
        torch.lerp(getattr(before, name), getattr(now, name), share)
        for name in ("cluster_probs", "expert_probs", "prompt")
    )
    routing = choose_experts(experts, now.topk_indices.shape[1], cluster_probs=clusters, prompt=prompt)
    first, last = (r.topk_weights.sum(dim=1, keepdim=True) for r in (before, now))
    together = torch.lerp(first, last, share)
    return routing._replace(topk_weights=routing.topk_weights * together)


class ShotRouting:
    """Routings for the frames of a video, one after the other.

    The first frame of a shot decides. Every eighth frame behind it is routed too, and the routing moves a quarter of
    the way to what that one says: so the experts do not change with the noise of single frames, and routing costs an
    eighth. A shot begins where the mean difference of two neighboring frames, as thumbnails of 16x16 pixels, is above
    0.1 of the range. All three numbers are this project's choice.

    Args:
        route: from a frame ``H x W x 3``, uint8, to its routings.
    """

    def __init__(self, route: Callable[[npt.NDArray[np.uint8]], tuple[Routing, ...]]) -> None:
        self._route = route
        self._thumbnail: Tensor | None = None
        self._age = 0
        self._routings: tuple[Routing, ...] = ()

    def __call__(self, frame: npt.NDArray[np.uint8]) -> tuple[Routing, ...]:
        """Routings of the next frame, ``H x W x 3``, uint8."""
        thumbnail = _thumbnail(frame)
        if self._thumbnail is None or (thumbnail - self._thumbnail).abs().mean() > _CUT:
            self._age, self._routings = 0, self._route(frame)
        elif self._age % _EVERY == 0:
            self._routings = tuple(map(ease, self._routings, self._route(frame)))
        self._thumbnail = thumbnail
        self._age += 1
        return self._routings

    def state_dict(self) -> dict[str, Tensor]:
        """What the next frame depends on."""
        state = {} if self._thumbnail is None else {"thumbnail": self._thumbnail, "age": torch.tensor(self._age)}
        for number, routing in enumerate(self._routings):
            fields = routing._asdict().items()
            state.update({f"{number}.{name}": value.contiguous() for name, value in fields if value is not None})
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        self._thumbnail, self._age = state["thumbnail"], int(state["age"])
        count = len({name.split(".")[0] for name in state if "." in name})
        self._routings = tuple(
            Routing._make(state.get(f"{number}.{name}") for name in Routing._fields) for number in range(count)
        )


def _thumbnail(frame: npt.NDArray[np.uint8]) -> Tensor:
    rows, columns = (np.linspace(0, length - 1, 8 * _SIDE).astype(int) for length in frame.shape[:2])
    sampled = frame[rows[:, None], columns].astype(np.float32) / 255
    return torch.from_numpy(sampled.reshape(_SIDE, 8, _SIDE, 8, 3).mean(axis=(1, 3)))

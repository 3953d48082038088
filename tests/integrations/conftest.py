"""Networks of both kinds."""

from __future__ import annotations

from network_fixtures import clusir, final_image, make_net, net

__all__ = ["clusir", "final_image", "make_net", "net"]

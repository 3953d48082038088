"""ClusIR for spandrel, and with it for ChaiNNer, ComfyUI and others: importing this module registers it."""

from __future__ import annotations

from typing import Any

from spandrel import (
    MAIN_REGISTRY,
    Architecture,
    ArchSupport,
    ImageModelDescriptor,
    ModelTiling,
    SizeRequirements,
    StateDict,
)

from ..inference.network import final_image
from ..networks.clusir import ClusIR
from ..serialization.configuration import infer_configuration

__all__ = ["ClusIRArch", "register"]


class ClusIRArch(Architecture[ClusIR]):  # type: ignore[misc]
    """Recognizes state dicts of :class:`ClusIR` of any settings and makes the network.

    Of the half precisions bfloat16 is offered; float16 has not been tried with trained weights. Tiling is discouraged,
    because each tile would be routed by itself; ``clusir_modules.restore`` routes the whole image once.
    """

    def __init__(self) -> None:
        super().__init__(id="ClusIR", detect=ClusIR.recognizes)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[ClusIR]:
        """Make the network that a state dict belongs to.

        Raises:
            ValueError: the weights are damaged.
        """
        configuration = infer_configuration(state_dict)
        net: Any = configuration.build()
        settings = configuration.settings
        return ImageModelDescriptor(
            net,
            state_dict,
            architecture=self,
            purpose="Restoration",
            tags=[f"{settings['dim']}dim", f"{settings['num_experts']}experts"],
            supports_half=False,
            supports_bfloat16=True,
            scale=1,
            input_channels=settings["in_channels"],
            output_channels=settings["in_channels"],
            size_requirements=SizeRequirements(),
            tiling=ModelTiling.DISCOURAGED,
            call_fn=lambda net, image: final_image(net(image)),
        )


def register() -> None:
    """Add :class:`ClusIRArch` to spandrel's main registry; calling it again does nothing."""
    MAIN_REGISTRY.add(ArchSupport.from_architecture(ClusIRArch()), ignore_duplicates=True)


register()

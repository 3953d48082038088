"""Components for all-in-one image restoration: routing, experts, prompts, wavelets, frequency modulation, networks.

Maps are ``(B, C, H, W)``, floating point; images are RGB in [0, 1]. Nothing here needs BasicSR.
"""

from __future__ import annotations

from .attention.channel_attention import CAB
from .attention.supervised_attention import SAM
from .attention.transposed import TransposedAttention
from .blocks.cross_stage_fusion import CSFF
from .blocks.feed_forward import GatedFeedForward
from .blocks.original_resolution import ORB, ORSNet
from .experts.cluster_moe import ClusterMoE
from .experts.gated_conv_experts import GatedConvExperts
from .frequency.dafmm import DAFMM
from .inference.restore import restore
from .losses.charbonnier import CharbonnierLoss
from .losses.edge import EdgeLoss
from .losses.l1_ms_ssim import L1MSSSIMLoss
from .losses.routing import cluster_information_loss, load_balance_loss, orthogonality_loss
from .networks.clusir import ClusIR, clusir_base, clusir_small, clusir_tiny
from .networks.clusir_stage import ClusIRStage
from .networks.mprnet import (
    MPRNet,
    convert_mprnet_state_dict,
    mprnet_deblurring,
    mprnet_denoising,
    mprnet_deraining,
)
from .prompts.fusion import PromptFusion
from .prompts.pgb import PGB
from .routing.evidence import WaveletEvidence
from .routing.pcgrm import PCGRM, Routing
from .wavelets.dwt import dwt2d, idwt2d
from .wavelets.wtb import WTB

__all__ = [
    "CAB",
    "CSFF",
    "DAFMM",
    "ORB",
    "PCGRM",
    "PGB",
    "SAM",
    "WTB",
    "CharbonnierLoss",
    "ClusIR",
    "ClusIRStage",
    "ClusterMoE",
    "EdgeLoss",
    "GatedConvExperts",
    "GatedFeedForward",
    "L1MSSSIMLoss",
    "MPRNet",
    "ORSNet",
    "PromptFusion",
    "Routing",
    "TransposedAttention",
    "WaveletEvidence",
    "clusir_base",
    "clusir_small",
    "clusir_tiny",
    "cluster_information_loss",
    "convert_mprnet_state_dict",
    "dwt2d",
    "idwt2d",
    "load_balance_loss",
    "mprnet_deblurring",
    "mprnet_denoising",
    "mprnet_deraining",
    "orthogonality_loss",
    "restore",
]

__version__ = "0.1.0"

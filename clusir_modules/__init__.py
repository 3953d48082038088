"""Components for all-in-one image restoration: routing, experts, prompts, wavelets, frequency modulation, networks.

Maps are ``(B, C, H, W)``, floating point; images are RGB in [0, 1]. Nothing here needs BasicSR.
"""

from __future__ import annotations

from .inference.restore import restore
from .inference.restore_file import restore_file
from .inference.restore_video import restore_video
from .layers.basic.norm import LayerNorm2d
from .layers.basic.small_conv import SmallConv2d
from .layers.experts.cluster_moe import ClusterMoE
from .layers.experts.dispatch import DispatchedExperts
from .layers.experts.gated_conv_experts import GatedConvExperts
from .layers.frequency.dafmm import DAFMM
from .layers.frequency.learnable_wavelet import LearnableWavelet
from .layers.multi_stage.channel_attention import CAB
from .layers.multi_stage.cross_stage_fusion import CSFF
from .layers.multi_stage.original_resolution import ORB, ORSNet
from .layers.multi_stage.supervised_attention import SAM
from .layers.prompts.fusion import PromptFusion
from .layers.prompts.pgb import PGB
from .layers.routing.pcgrm import PCGRM
from .layers.routing.routing import Routing, choose_experts
from .layers.routing.wavelet_evidence import WaveletEvidence
from .layers.transformer.feed_forward import GatedFeedForward
from .layers.transformer.transposed_attention import TransposedAttention
from .layers.transformer.wtb import WTB
from .losses.charbonnier import CharbonnierLoss
from .losses.distillation import distillation_loss
from .losses.edge import EdgeLoss
from .losses.fft import FFTLoss
from .losses.focal_frequency import FocalFrequencyLoss
from .losses.l1_ms_ssim import L1MSSSIMLoss
from .losses.routing import cluster_information_loss, load_balance_loss, orthogonality_loss, router_z_loss
from .networks.clusir import ClusIR, clusir_base, clusir_small, clusir_tiny
from .networks.clusir_encoder import ClusIREncoder
from .networks.clusir_stage import ClusIRStage
from .networks.mprnet import MPRNet, mprnet_deblurring, mprnet_denoising, mprnet_deraining
from .networks.mprnet_state_dict import convert_mprnet_state_dict
from .networks.parts import PARTS, Prompts
from .ops.dwt import dwt2d, idwt2d
from .ops.wavelet_levels import iswt2d, swt2d, wavedec2, waverec2
from .serialization.registry import NETWORKS, Registry

__all__ = [
    "CAB",
    "CSFF",
    "DAFMM",
    "NETWORKS",
    "ORB",
    "PARTS",
    "PCGRM",
    "PGB",
    "SAM",
    "WTB",
    "CharbonnierLoss",
    "ClusIR",
    "ClusIREncoder",
    "ClusIRStage",
    "ClusterMoE",
    "DispatchedExperts",
    "EdgeLoss",
    "FFTLoss",
    "FocalFrequencyLoss",
    "GatedConvExperts",
    "GatedFeedForward",
    "L1MSSSIMLoss",
    "LayerNorm2d",
    "LearnableWavelet",
    "MPRNet",
    "ORSNet",
    "PromptFusion",
    "Prompts",
    "Registry",
    "Routing",
    "SmallConv2d",
    "TransposedAttention",
    "WaveletEvidence",
    "choose_experts",
    "clusir_base",
    "clusir_small",
    "clusir_tiny",
    "cluster_information_loss",
    "convert_mprnet_state_dict",
    "distillation_loss",
    "dwt2d",
    "idwt2d",
    "iswt2d",
    "load_balance_loss",
    "mprnet_deblurring",
    "mprnet_denoising",
    "mprnet_deraining",
    "orthogonality_loss",
    "restore",
    "restore_file",
    "restore_video",
    "router_z_loss",
    "swt2d",
    "wavedec2",
    "waverec2",
]

__version__ = "0.1.0"

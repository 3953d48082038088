"""ClusIR as the prior of an inverse problem in deepinv.

It was never trained on this blur, the physics knows it.
"""

from __future__ import annotations

import deepinv
import torch
from PIL import Image
from skimage.data import astronaut
from torchvision.transforms.functional import to_tensor

import clusir_modules as cm
from clusir_modules.integrations.deepinv import BlindDenoiser
from clusir_modules.metrics import psnr

torch.manual_seed(0)
sharp = to_tensor(
    Image.fromarray(astronaut()).resize((192, 192)).crop((40, 0, 136, 96))
)[None]
physics = deepinv.physics.BlurFFT(
    img_size=(3, 96, 96),
    filter=deepinv.physics.functional.gaussian_blur(sigma=(1.5, 1.5)),
    noise_model=deepinv.physics.GaussianNoise(sigma=0.02),
)
blurred = physics(sharp)

denoiser = BlindDenoiser(cm.clusir_tiny(pretrained=True)).eval()
iterations = 8
strengths = torch.logspace(-1, -1.4, iterations)  # of the prior, falling
algorithm = deepinv.optim.optim_builder(
    iteration="HQS",
    prior=deepinv.optim.PnP(denoiser),
    data_fidelity=deepinv.optim.L2(),
    max_iter=iterations,
    params_algo={
        "stepsize": [float(s / 0.02) ** 2 for s in strengths],
        "g_param": strengths.tolist(),
    },
)
with torch.no_grad():
    deblurred = algorithm(blurred, physics)

clean, *pictures = (x[0].permute(1, 2, 0).numpy() for x in (sharp, blurred, deblurred))
before, after = (psnr(picture, clean) for picture in pictures)
print(f"blurred {before:.1f} dB, deblurred {after:.1f} dB")
assert after > before + 1

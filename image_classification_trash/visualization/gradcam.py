"""Grad-CAM (Selvaraju et al., 2017): the regions of a photo that led to the predicted class."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from image_classification_trash.inference.images import Pixels
from image_classification_trash.networks.network import TrashNetwork, to_planes


def grad_cam(network: TrashNetwork, photo: Pixels) -> npt.NDArray[np.float32] | None:
    """Return the heat map of the top class, float32 (H, W), 0 to 1, for one photo, uint8 (H, W, 3).

    None for networks without feature maps (B, D, h, w), such as transformers.
    """
    maps: list[torch.Tensor] = []

    def keep_last(module: torch.nn.Module, inputs: object, output: object) -> None:
        """Keep the last output that still has a height and a width."""
        if (
            isinstance(output, torch.Tensor)
            and output.ndim == 4
            and output.shape[2] > 1
            and output.requires_grad
        ):
            maps[:] = [output]

    handles = [module.register_forward_hook(keep_last) for module in network.backbone.modules()]
    try:
        with torch.enable_grad():
            scores = network.eval().logits(to_planes(torch.from_numpy(photo[None].copy())).requires_grad_())
            if not maps:
                return None
            (gradient,) = torch.autograd.grad(scores.max(), maps[-1])
    finally:
        for handle in handles:
            handle.remove()
    heat = F.relu((gradient.mean((2, 3), keepdim=True) * maps[-1]).sum(1, keepdim=True))
    heat = F.interpolate(heat, photo.shape[:2], mode="bilinear")[0, 0]
    return np.asarray((heat / heat.max().clamp(min=1e-8)).detach().numpy())

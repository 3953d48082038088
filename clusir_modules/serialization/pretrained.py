"""Networks that know how they were made: saved to a folder or to the Hugging Face Hub, and made again from there.

``huggingface_hub`` has such a class too, ``PyTorchModelHubMixin``. Importing it takes 0.45 s, where all of
``clusir_modules`` takes 0.03 s, and it loads weights that do not fit without an error; so only its client is used, and
only for what is not on this machine.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from .atomic import written_whole

if TYPE_CHECKING:
    _Base = nn.Module
else:
    _Base = object

__all__ = ["CARD_NAME", "CONFIG_NAME", "RECORD_NAME", "WEIGHTS_NAME", "HubMixin"]

CONFIG_NAME, WEIGHTS_NAME, CARD_NAME = "config.json", "model.safetensors", "README.md"
RECORD_NAME = "settings_record"
"""Entry of a state dict with those settings that no shape shows, see :meth:`HubMixin.record_settings`."""


class HubMixin(_Base):
    """Base class, before ``nn.Module``, that records the arguments a network is made with and saves them with it.

    Attributes:
        config: every argument of the constructor by name, defaults included, sequences as lists: plain JSON.

    A class whose constructor passes ``**settings`` on to another names it, ``class Net(HubMixin, nn.Module,
    settings_of=Stage, but_not=("last",))``, so that the other's defaults are recorded too, but not those of the
    arguments that it sets itself.
    """

    config: dict[str, Any]
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(
        cls, *, settings_of: Callable[..., Any] | None = None, but_not: Collection[str] = (), **kwargs: Any
    ) -> None:
        """Note the defaults of the constructor."""
        super().__init_subclass__(**kwargs)
        own = inspect.signature(cls.__init__).parameters.values()
        passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own)
        other = inspect.signature(settings_of).parameters.values() if settings_of is not None else ()
        defaults = {p.name: p.default for p in (*other, *own) if p.default is not p.empty and p.name not in but_not}
        cls._defaults = {**(cls._defaults if passes_on else {}), **defaults}

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments; wrong ones are left for the constructor to refuse."""
        instance = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs).arguments
        except TypeError:
            return instance
        names = list(bound)[1:]
        given = {name: bound[name] for name in names}
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                given.update(given.pop(name, {}))
        instance.__dict__["config"] = {**cls.defaults(), **{n: _plain(v) for n, v in given.items()}}
        return instance

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Arguments of the constructor that have a default, as :attr:`config` has them."""
        return {name: _plain(value) for name, value in cls._defaults.items()}

    def record_settings(self, *names: str) -> None:
        """Put those of the named settings that differ from their defaults into the state dict; call it at the end.

        Shapes tell most settings of a network, but not, say, how many experts an image runs. Programs that see a state
        dict alone (ChaiNNer, ComfyUI) would run the network with the defaults. The entry is a ``uint8`` tensor of JSON
        text; a network with default settings has none.
        """
        defaults = self.defaults()
        known = [name for name in names if name in self.config]  # a subclass may set some itself
        changed = {name: self.config[name] for name in known if self.config[name] != defaults[name]}
        if changed:
            text = json.dumps(changed, sort_keys=True).encode()
            self.register_buffer(RECORD_NAME, torch.frombuffer(bytearray(text), dtype=torch.uint8).clone())
            self.register_load_state_dict_pre_hook(_refuse_other_settings)  # type: ignore[no-untyped-call]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``config.json``, ``model.safetensors`` and, unless there is one, the model card ``README.md``.

        Raises:
            OSError: the folder cannot be written to.
        """
        from .network_files import save_network

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / CONFIG_NAME) as file:
            file.write_text(json.dumps({"architecture": type(self).__name__, **self.config}, indent=2) + "\n")
        save_network(self, folder / WEIGHTS_NAME)
        if not (folder / CARD_NAME).exists():
            with written_whole(folder / CARD_NAME) as file:
                file.write_text(self.model_card(), encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Make the network that :meth:`save_pretrained` saved, in eval mode, on the CPU.

        Args:
            source: a folder, or the name of a repository of the Hugging Face Hub, ``"owner/name"``.
            revision: branch, tag or commit there.
            cache_dir: where downloads are kept.
            local_files_only: take only what was downloaded before.

        Raises:
            FileNotFoundError: the folder lacks a file.
            ValueError: the files are damaged, do not fit each other, or belong to another architecture.
        """
        folder = Path(source)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(
                snapshot_download(
                    os.fspath(source),
                    revision=revision,
                    cache_dir=cache_dir,
                    local_files_only=local_files_only,
                    allow_patterns=[CONFIG_NAME, WEIGHTS_NAME],
                )
            )
        from .network_files import load_network

        net = load_network(folder)
        if not isinstance(net, cls):
            raise ValueError(f"'{source}' must hold a {cls.__name__}, got a {type(net).__name__}")
        return net

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, message: str = "Upload network") -> str:
        """Upload what :meth:`save_pretrained` writes to the Hugging Face Hub and return the address of the commit.

        A model card that is there already is kept. Uses the token of ``hf auth login``.
        """
        from tempfile import TemporaryDirectory

        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        kept = [CARD_NAME] if api.file_exists(repo_id, CARD_NAME) else []
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message=message, ignore_patterns=kept
            )
        return str(commit.commit_url)

    def model_card(self) -> str:
        """Text of the model card: what is known of the network; its trainer adds data, results and license."""
        name = type(self).__name__
        settings = "\n".join(f"| `{key}` | `{json.dumps(value)}` |" for key, value in self.config.items())
        count = sum(parameter.numel() for parameter in self.parameters())
        summary = (inspect.getdoc(type(self)) or "").splitlines()[0]
        return _CARD.format(name=name, summary=summary, settings=settings, count=f"{count:,}")


def _plain(value: Any) -> Any:
    """Sequences as lists, as JSON has them."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value


def _refuse_other_settings(module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    given, own = state_dict.get(prefix + RECORD_NAME), cast(Tensor, getattr(module, RECORD_NAME))
    if isinstance(given, Tensor) and not torch.equal(given.cpu(), own.cpu()):
        texts = [bytes(record.cpu().tolist()).decode(errors="replace") for record in (given, own)]
        raise ValueError(f"the weights belong to a network with {texts[0]}, this one has {texts[1]}")


_CARD = """\
---
library_name: clusir
pipeline_tag: image-to-image
tags:
- image-restoration
- clusir
- pytorch
---

# {name}

{summary}

{count} parameters. Input and output are RGB images in [0, 1].

```python
import clusir_modules as cm

net = cm.{name}.from_pretrained("PATH_OR_REPOSITORY")
```

```sh
clusir restore --weights PATH_OR_FILE photo.jpg restored.png
```

## Configuration

| setting | value |
|---|---|
{settings}

## Training data, results, license

Not stated.
"""

"""Networks that know how they were made: saved to a folder or to the Hugging Face Hub, and made again from there.

``huggingface_hub`` has such a class too, ``PyTorchModelHubMixin``. Importing it takes 0.45 s, where all of
``clusir_modules`` takes 0.03 s, and it loads weights that do not fit without an error; so only its client is used, and
only for what is not on this machine.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .atomic import written_whole
from .model_card import CARD_NAME, write_card
from .registry import NETWORKS, Registry, suggest

if TYPE_CHECKING:
    _Base = nn.Module
else:
    _Base = object

__all__ = ["CONFIG_NAME", "RECORD_NAME", "WEIGHTS_NAME", "Pretrained", "read_record"]

CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"
RECORD_NAME = "settings_record"
"""Entry of a state dict with those settings that no shape shows, see :class:`Pretrained`."""
_LONGEST_RECORD = 2**16  # bytes
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class Pretrained(_Base):
    """Base class, before ``nn.Module``, that records the arguments a network is made with and saves them with it.

    The state dict has one more entry, ``settings_record``, where the shapes do not tell all settings: a ``uint8``
    tensor of JSON text. It holds those of :attr:`shapeless` that differ from their defaults, or the whole
    :attr:`config` where a part is not the default one. Programs that see a state dict alone (ChaiNNer, ComfyUI) would
    else run the network with the defaults. Weights whose record differs from the network's are refused.

    Attributes:
        config: the arguments of the constructor by name, defaults included, sequences as lists: plain JSON. Parts are
            named where they are not the default ones.
        parts: of the class, as all below, for subclasses to set: what the keywords that take factories may be, by
            keyword; a keyword that takes a dataclass of factories has an entry ``keyword.field`` for each field.
        shapeless: settings that no shape shows.
        renamed: new names of settings by the names that older files have.
        skeleton: entries that every state dict of the class has, and together no other.
    """

    config: dict[str, Any]
    parts: ClassVar[Mapping[str, Registry]] = MappingProxyType({})
    shapeless: ClassVar[tuple[str, ...]] = ()
    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({})
    skeleton: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Note the defaults of the constructor."""
        super().__init_subclass__(**kwargs)
        own = inspect.signature(cls.__init__).parameters.values()
        defaults = {parameter.name: parameter.default for parameter in own if parameter.default is not parameter.empty}
        cls._defaults = {**(cls._defaults if cls._name_of_others() else {}), **defaults}

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments; wrong ones are left for the constructor to refuse."""
        instance = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs).arguments
        except TypeError:
            return instance
        given = {name: bound[name] for name in list(bound)[1:]}
        others = cls._name_of_others()
        if others is not None:
            given.update(given.pop(others, {}))
        settings = {name: _plain(value) for name, value in given.items() if not cls._takes_parts(name)}
        instance.__dict__["config"] = {**cls.defaults(), **settings, **cls._say_parts(given)}
        return instance

    def __init__(self) -> None:
        super().__init__()
        self.register_state_dict_post_hook(_add_record)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_compare_records)  # type: ignore[no-untyped-call]

    @classmethod
    def _name_of_others(cls) -> str | None:
        """Name under which the constructor takes any other keyword, to pass it on: ``settings`` for ``**settings``."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return next((parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD), None)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Arguments of the constructor that have a default, as :attr:`config` has them; parts are left out."""
        return {name: _plain(value) for name, value in cls._defaults.items() if not cls._takes_parts(name)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make the network of a configuration, such as :attr:`config`, or a section of an option file.

        Raises:
            TypeError: a setting has a wrong type, or one that has no default is missing.
            ValueError: a setting or the name of a part is unknown (with the nearest known one), or out of range.
        """
        return cls(**cls.read_config(config))

    @classmethod
    def read_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the constructor from a configuration. Here, and nowhere else, names become parts.

        Raises:
            TypeError: a part is neither a name nor a mapping with a ``type``.
            ValueError: a setting or the name of a part is unknown; the message has the nearest known one.
        """
        known = {*list(inspect.signature(cls.__init__).parameters)[1:], *cls._defaults}
        settings = {}
        for given, said in config.items():
            name = cls.renamed.get(given, given)
            if name not in known and not cls._name_of_others():
                raise ValueError(f"{cls.__name__} has no setting {given!r}{suggest(str(given), known)}")
            settings[name] = cls._make_parts(name, said) if cls._takes_parts(name) else said
        return settings

    @classmethod
    def _takes_parts(cls, name: str) -> bool:
        return any(kind.partition(".")[0] == name for kind in cls.parts)

    @classmethod
    def _say_parts(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parts that are not the default ones, as files name them."""
        said: dict[str, Any] = {}
        for name, value in given.items():
            default = cls._defaults.get(name)
            if not cls._takes_parts(name) or value is default:
                continue
            if name in cls.parts:
                said[name] = cls.parts[name].say(value)
            elif dataclasses.is_dataclass(value) and value != default:
                said[name] = {
                    field.name: cls.parts[f"{name}.{field.name}"].say(getattr(value, field.name))
                    for field in dataclasses.fields(value)
                    if getattr(value, field.name) is not field.default
                }
            elif value is None:
                said[name] = None
        return said

    @classmethod
    def _make_parts(cls, name: str, said: Any) -> Any:
        """The reverse of :meth:`_say_parts`, of one keyword."""
        if name in cls.parts:
            return cls.parts[name].make(said)
        if said is None:
            return None
        fields = {kind.partition(".")[2]: kind for kind in cls.parts if kind.startswith(f"{name}.")}
        if not isinstance(said, Mapping):
            raise TypeError(f"{name} must be a mapping of {', '.join(fields)}, got {type(said).__name__} {said!r}")
        for field in said:
            if field not in fields:
                raise ValueError(f"{name} has no part {field!r}{suggest(str(field), fields)}")
        return type(cls._defaults[name])(
            **{field: cls.parts[fields[field]].make(value) for field, value in said.items()}
        )

    @classmethod
    def recognizes(cls, weights: Mapping[str, Any]) -> bool:
        """Whether a state dict is one of this class, whatever its settings."""
        return bool(cls.skeleton) and all(name in weights for name in cls.skeleton)

    @classmethod
    def settings_of(cls, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Settings that the names, the shapes and the record of a state dict tell.

        Raises:
            KeyError: an entry is missing.
            ValueError: a shape or the record is damaged.
        """
        return read_record(weights)

    @classmethod
    def convert(cls, weights: Mapping[str, Any]) -> dict[str, Tensor]:
        """Weights that other programs wrote, with the names of this class."""
        return dict(weights)

    def recorded_settings(self) -> dict[str, Any]:
        """What the record in the state dict says; empty if there is none."""
        if self.part_settings(self.config):
            return self.config
        defaults = self.defaults()
        known = [name for name in self.shapeless if name in self.config]  # a subclass may set some itself
        return {name: self.config[name] for name in known if self.config[name] != defaults[name]}

    @classmethod
    def part_settings(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the settings that name parts."""
        return {name: value for name, value in settings.items() if cls._takes_parts(name)}

    @classmethod
    def telling_settings(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the settings that no shape shows, and the parts."""
        shapeless = {name: value for name, value in settings.items() if name in cls.shapeless}
        return {**shapeless, **cls.part_settings(settings)}

    def require_reproducible(self) -> None:
        """Refuse a network that its configuration does not make again: a file of it could not be loaded.

        Raises:
            ValueError: its class or a part is not registered, a setting is none that JSON has, or a module was
                exchanged after the network was made; the message names it.
        """
        cls = type(self)
        registered: object = NETWORKS.get(cls.__name__)
        if registered is not cls:
            raise ValueError(
                f"{cls.__name__} must be registered before it is saved, by clusir_modules.NETWORKS.register"
            )
        try:
            with torch.device("meta"), torch.random.fork_rng(devices=[]):
                twin = cls.from_config(self.config)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{cls.__name__} cannot be made again from its configuration: {error}. Parts of one's own must be "
                "registered before the network is saved, by clusir_modules.PARTS[KEYWORD].register"
            ) from error
        own, expected = (dict(net.named_modules()) for net in (self, twin))
        for name in {**expected, **own}:
            given, wanted = own.get(name), expected.get(name)
            if type(given) is not type(wanted) or _describe(given) != _describe(wanted):
                rerun = " as it is registered now" if _describe(given) == _describe(wanted) else ""
                raise ValueError(
                    f"{cls.__name__} differs from what its configuration makes, and could not be loaded again: "
                    f"{name} is {_describe(given)}, not {_describe(wanted)}{rerun}"
                )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``config.json``, ``model.safetensors`` and, unless there is one, the model card ``README.md``.

        Raises:
            OSError: the folder cannot be written to.
            ValueError: the network could not be loaded again, see :meth:`require_reproducible`; nothing is written.
        """
        from .network_files import save_network

        self.require_reproducible()
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
            FileNotFoundError: there is neither such a folder nor such a repository, or it lacks a file.
            ValueError: the files are damaged, do not fit each other, or belong to another architecture.
        """
        folder = Path(source)
        if not folder.is_dir():
            folder = _download(
                os.fspath(source), revision=revision, cache_dir=cache_dir, local_files_only=local_files_only
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
        return write_card(self, self.config)


def read_record(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that the record in a state dict says; empty if there is none.

    The record may have been cast or averaged together with the weights.

    Raises:
        ValueError: it is damaged or too long.
    """
    record = weights.get(RECORD_NAME)
    if record is None:
        return {}
    if not isinstance(record, Tensor) or record.is_complex() or record.numel() > _LONGEST_RECORD:
        raise ValueError(f"{RECORD_NAME} must be at most {_LONGEST_RECORD} bytes of text")
    values = record.detach().flatten().cpu().double()
    try:
        settings = json.loads(bytes(values.round().long().tolist()))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{RECORD_NAME} is damaged: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{RECORD_NAME} must hold settings, got {settings!r}")
    return settings


def _plain(value: Any) -> Any:
    """Sequences as lists, as JSON has them."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value


def _describe(module: nn.Module | None) -> str:
    """Type, settings and own parameters of a module."""
    if module is None:
        return "absent"
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters(recurse=False)}
    return f"{type(module).__name__}({module.extra_repr()}){shapes or ''}"


def _download(name: str, **options: Any) -> Path:
    """Fetch a repository of the Hugging Face Hub.

    Raises:
        FileNotFoundError: the name is none of a repository, or it cannot be had.
    """
    if not _REPOSITORY.fullmatch(name):
        raise FileNotFoundError(f"there is no folder '{name}'")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME], **options))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"there is no folder '{name}', and no repository of that name can be had: {error}"
        ) from error


def _add_record(module: Pretrained, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    settings = module.recorded_settings()
    if settings:
        text = json.dumps(settings, sort_keys=True).encode()
        state_dict[prefix + RECORD_NAME] = torch.frombuffer(bytearray(text), dtype=torch.uint8).clone()


def _compare_records(
    module: Pretrained, state_dict: dict[str, Any], prefix: str, _: Any, strict: bool, missing: list[str], *__: Any
) -> None:
    own = module.recorded_settings()
    if not own:
        return  # a record is then an unexpected entry like any other
    record = state_dict.pop(prefix + RECORD_NAME, None)
    if record is None:
        missing.append(prefix + RECORD_NAME)
        return
    given, own = (module.telling_settings(settings) for settings in (read_record({RECORD_NAME: record}), own))
    defaults = {name: value for name, value in module.defaults().items() if name in module.shapeless}
    if {**defaults, **given} != {**defaults, **own}:
        texts = [json.dumps(settings, sort_keys=True) for settings in (given, own)]
        raise ValueError(f"the weights belong to a network with {texts[0]}, this one has {texts[1]}")

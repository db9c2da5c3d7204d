"""All tensors that a training run cannot do without: those of its modules and of its optimizers, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from facemtl.training.state_difference import Difference, SavedTensor

_OPTIMIZER = "optimizer"
_STEP = "step"


class _Owner(NamedTuple):
    """A parameter and one optimizer that steps it."""

    optimizer: torch.optim.Optimizer
    parameter: Tensor
    step_on_device: bool


class TrainingState:
    """The modules and optimizers of a run, seen as one flat mapping of names to tensors.

    Names do not depend on how a module is wrapped: :class:`~torch.nn.parallel.DistributedDataParallel` and
    :func:`torch.compile` add ``module.`` and ``_orig_mod.``, which are left out again. A tensor that occurs twice (tied
    weights) is there once, by its first name. Buffers that are not persistent are left out.

    Nothing is copied, and nothing is looked up before it is needed: modules may be wrapped and optimizers may step
    after this was built.

    Args:
        modules: Modules by name; ``{"model": …, "discriminator": …}``.
        optimizers: Optimizers by name. All their parameters must be in ``modules``.

    Raises:
        TypeError: If something is no module or no optimizer.
        ValueError: If a name is empty, has a dot or is ``"optimizer"``; if an optimizer steps a parameter that no
            module has; if a module has extra state, which is no tensor.

    Note:
        Learning rates and other options of optimizers are no part of it: they are functions of the settings and the
        step.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> state = TrainingState(modules={"model": model}, optimizers={"sgd": optimizer})
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> list(state.tensors())
        ['model.weight', 'optimizer.sgd.model.weight.momentum_buffer']
    """

    def __init__(
        self, *, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer] | None = None
    ) -> None:
        self.modules, self.optimizers = dict(modules), dict(optimizers or {})
        _check("modules", self.modules, nn.Module)
        _check("optimizers", self.optimizers, torch.optim.Optimizer)
        for name, module in self.modules.items():
            _check_no_extra_state(name, module)
        self._owners(self._module_tensors())

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, without gradient, sharing memory with the run; DTensors stay what they are.

        Those of modules come first. State of an optimizer is called
        ``optimizer.<optimizer>.<module>.<parameter>.<key>``, and parameters that never stepped have none.

        Raises:
            TypeError: If an optimizer keeps something that is no tensor.
            ValueError: If a parameter is not initialised yet.
        """
        tensors = self._module_tensors()
        for prefix, owner in self._owners(tensors).items():
            for key, value in _kept(owner).items():
                name = f"{prefix}.{key}"
                if not isinstance(value, Tensor) or "." in key:
                    raise TypeError(
                        f"TrainingState: {name!r} must be a tensor, got {type(value).__name__}. Use an optimizer "
                        "whose state is tensors, as that of SGD, Adam and AdamW is."
                    )
                tensors[name] = value.detach()
        return tensors

    def difference(self, saved: Mapping[str, SavedTensor]) -> Difference:
        """Compare with what a checkpoint has. Optimizer state that is missing there is no difference."""
        here = self._module_tensors()
        owners = self._owners(here)
        missing, unexpected, unlike = sorted(here.keys() - saved.keys()), [], []
        for name, there in sorted(saved.items()):
            if name in here:
                mine = SavedTensor(tuple(here[name].shape), here[name].dtype)
                if mine != there:
                    unlike.append(f"{name} is {there.text} there, {mine.text} here")
            elif name.rpartition(".")[0] not in owners:
                unexpected.append(name)
        return Difference(missing, unexpected, unlike)

    def places(self, saved: Mapping[str, SavedTensor]) -> dict[str, Tensor]:
        """Tensors to read a checkpoint into: the run's own, and fresh ones for optimizer state it has not yet."""
        here = self._module_tensors()
        owners = self._owners(here)
        places = dict(here)
        for name, there in saved.items():
            if name not in here:
                prefix, _, key = name.rpartition(".")
                places[name] = _place(owners[prefix], key, there)
        return places

    def adopt(self, places: Mapping[str, Tensor]) -> None:
        """Make the optimizers' state what :meth:`places` gave and was read since, and nothing else."""
        kept: dict[str, dict[str, Tensor]] = {}
        for name, place in places.items():
            prefix, _, key = name.rpartition(".")
            kept.setdefault(prefix, {})[key] = place
        for prefix, owner in self._owners(self._module_tensors()).items():
            owner.optimizer.state.pop(owner.parameter, None)
            if prefix in kept:
                owner.optimizer.state[owner.parameter] = kept[prefix]

    def _module_tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        seen: set[int] = set()
        for root, module in self.modules.items():
            for name, tensor in _persistent(module).items():
                if id(tensor) in seen:
                    continue
                seen.add(id(tensor))
                plain = f"{root}.{_plain(module, name)}"
                _check_memory(plain, tensor)
                tensors[plain] = tensor.detach()
        return tensors

    def _owners(self, tensors: Mapping[str, Tensor]) -> dict[str, _Owner]:
        """Each optimizer's parameters, by the beginning of the names of their state."""
        names: dict[int, str] = {}
        for root, module in self.modules.items():
            for name, parameter in module.named_parameters():
                names.setdefault(id(parameter), f"{root}.{_plain(module, name)}")
        owners: dict[str, _Owner] = {}
        for title, optimizer in self.optimizers.items():
            for number, group in enumerate(optimizer.param_groups):
                on_device = bool(group.get("capturable") or group.get("fused"))
                for parameter in group["params"]:
                    if names.get(id(parameter)) not in tensors:
                        raise ValueError(
                            f"TrainingState: all parameters of 'optimizers' must be in 'modules', got one of shape "
                            f"{tuple(parameter.shape)} in group {number} of {title!r} that is in none. Add its module."
                        )
                    prefix = f"{_OPTIMIZER}.{title}.{names[id(parameter)]}"
                    owners[prefix] = _Owner(optimizer, parameter, on_device)
        return owners


def _check(argument: str, given: Mapping[str, object], kind: type) -> None:
    for name, value in given.items():
        if not name or "." in name or name == _OPTIMIZER:
            raise ValueError(f"TrainingState: names in '{argument}' must be words, not 'optimizer', got {name!r}.")
        if not isinstance(value, kind):
            raise TypeError(
                f"TrainingState: '{argument}' must hold values of type {kind.__name__}, "
                f"got {type(value).__name__} for {name!r}."
            )


def _check_no_extra_state(root: str, module: nn.Module) -> None:
    for name, part in module.named_modules():
        if type(part).get_extra_state is not nn.Module.get_extra_state:
            raise ValueError(
                f"TrainingState: 'modules' must keep all state in tensors, got extra state in "
                f"{'.'.join(filter(None, (root, name)))!r}. Put it into the facts of the checkpoint."
            )


def _check_memory(name: str, tensor: Tensor) -> None:
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer) or tensor.is_meta:
        raise ValueError(
            f"TrainingState: {name!r} must have values, got a tensor without memory. Run the module once, or move it "
            "off the meta device."
        )
    if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        raise ValueError(
            f"TrainingState: {name!r} must have memory for each element, got strides {tensor.stride()} for shape "
            f"{tuple(tensor.shape)}: no checkpoint could be read into it. Call contiguous() after expand()."
        )


def _persistent(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers under all their names."""
    tensors: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    for prefix, part in module.named_modules(remove_duplicate=False):
        for name, buffer in part.named_buffers(recurse=False, remove_duplicate=False):
            if name not in part._non_persistent_buffers_set:
                tensors[f"{prefix}.{name}" if prefix else name] = buffer
    return tensors


def _plain(module: nn.Module, name: str) -> str:
    """``name`` without what wrappers add to it."""
    parts: list[str] = []
    inner: Any = module
    for part in name.split("."):
        wrapped = isinstance(inner, (nn.parallel.DistributedDataParallel, nn.DataParallel)) and part == "module"
        if not wrapped and part != "_orig_mod":
            parts.append(part)
        inner = getattr(inner, part, None)
    return ".".join(parts)


def _kept(owner: _Owner) -> dict[str, Any]:
    # `get`, as asking a defaultdict would fill it.
    return {key: value for key, value in owner.optimizer.state.get(owner.parameter, {}).items() if value is not None}


def _place(owner: _Owner, key: str, saved: SavedTensor) -> Tensor:
    """Where a tensor of optimizer state is read to: where it is, or new memory of the kind that torch would take."""
    parameter = owner.parameter
    current = _kept(owner).get(key)
    if isinstance(current, Tensor) and SavedTensor(tuple(current.shape), current.dtype) == saved:
        return current.detach()
    if key == _STEP and not saved.shape:  # counted on the host, except where no kernel may wait for it
        if owner.step_on_device:
            return torch.empty((), dtype=torch.float32, device=parameter.device)
        return torch.empty((), dtype=saved.dtype)
    if saved.shape == tuple(parameter.shape):
        return torch.empty_like(parameter, dtype=saved.dtype, requires_grad=False)
    return torch.empty(saved.shape, dtype=saved.dtype, device=parameter.device)

"""Weights of which each process holds its own rows, with initial values that do not depend on how many there are."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_BLOCK_ROWS = 1024
"""Rows that are drawn together: 2 MB of float32 at dimension 512."""


def _split_group(where: str, group: dist.ProcessGroup | None) -> dist.ProcessGroup | None:
    """The group over which identities are split: ``group``, or all processes; None where there is but one."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    group = dist.group.WORLD if group is None else group
    if group is None or dist.get_rank(group) < 0:
        raise ValueError(
            f"{where}: 'group' must hold this process, got a group without rank {dist.get_rank()}. "
            "Make the head on the members of the group only."
        )
    return group if dist.get_world_size(group) > 1 else None


def rows_of(num_identities: int, rank: int, world_size: int) -> range:
    """Identities of one process: ⌈identities / processes⌉ each, the last ones fewer or none, as DTensor splits them."""
    size = -(-num_identities // world_size)
    return range(min(rank * size, num_identities), min((rank + 1) * size, num_identities))


def split_weight(
    where: str,
    num_identities: int,
    dimension: int,
    *,
    group: dist.ProcessGroup | None,
    seed: int | None,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.Parameter:
    """Draw this process's rows from N(0, 0.01²): a plain parameter in one process, else a part of a DTensor.

    Never more memory than for these rows is taken. ``seed`` None takes one from torch's default generator, that of the
    group's first process where there are several.
    """
    group, device = _split_group(where, group), torch.empty(0, device=device).device
    if group is not None and device.type == "meta":
        raise ValueError(
            f"{where}: 'device' must be real while identities are split over processes, got meta. "
            "Each process makes its own rows only, which needs no detour over meta."
        )
    if seed is None:
        seed = _shared_seed(group, device)
    if group is None:
        return nn.Parameter(drawn_rows(range(num_identities), dimension, seed=seed, device=device, dtype=dtype))
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    rows = rows_of(num_identities, dist.get_rank(group), dist.get_world_size(group))
    return nn.Parameter(
        DTensor.from_local(
            drawn_rows(rows, dimension, seed=seed, device=device, dtype=dtype),
            DeviceMesh.from_group(group, device.type),
            [Shard(0)],
            run_check=False,
            shape=torch.Size((num_identities, dimension)),
            stride=(dimension, 1),
        )
    )


def drawn_rows(
    rows: range, dimension: int, *, seed: int, device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Rows of N(0, 0.01²) that are a function of ``seed`` and their numbers alone, drawn in float32 on the CPU."""
    values = torch.empty(len(rows), dimension, device=device, dtype=dtype)
    if values.is_meta:
        return values
    generator = torch.Generator()
    for block in range(rows.start // _BLOCK_ROWS, -(-rows.stop // _BLOCK_ROWS) if len(rows) else 0):
        generator.manual_seed(_block_seed(seed, block))
        drawn = torch.randn(_BLOCK_ROWS, dimension, generator=generator, device="cpu", dtype=torch.float32).mul_(0.01)
        first = block * _BLOCK_ROWS
        part = range(max(rows.start, first), min(rows.stop, first + _BLOCK_ROWS))
        values[part.start - rows.start : part.stop - rows.start] = drawn[part.start - first : part.stop - first]
    return values


def split_full_weight(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Before loading: let a process take its own rows of a whole weight, as one process saves it."""
    from torch.distributed.tensor import DTensor

    weight, full = module.weight, state.get(prefix + "weight")
    if not isinstance(weight, DTensor) or not isinstance(full, Tensor) or isinstance(full, DTensor):
        return
    if full.shape != weight.shape:
        return  # load_state_dict says so better
    mesh = weight.device_mesh
    rows = rows_of(full.shape[0], mesh.get_local_rank(), mesh.size())
    local = full[rows.start : rows.stop].to(weight.to_local())
    state[prefix + "weight"] = DTensor.from_local(
        local, mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride()
    )


def _shared_seed(group: dist.ProcessGroup | None, device: torch.device) -> int:
    seed = torch.randint(2**63 - 1, (), device="cpu")
    if group is None:
        return int(seed)
    seed = seed.to(device)
    dist.broadcast(seed, src=dist.get_global_rank(group, 0), group=group)
    return int(seed)


def _block_seed(seed: int, block: int) -> int:
    """32 bits, all that torch's CPU generator takes: scrambled, and no two blocks (of up to 2³²) get the same."""
    high = seed >> 32
    bits = _scrambled((seed ^ _scrambled(high & 0xFFFFFFFF)) & 0xFFFFFFFF)
    return _scrambled((bits + block) & 0xFFFFFFFF)


def _scrambled(bits: int) -> int:
    """MurmurHash3's last step: a permutation of the 32-bit numbers."""
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return bits ^ (bits >> 16)

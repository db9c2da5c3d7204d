"""Plain values out of a pickle, by an interpreter of its own that knows no instruction to run anything."""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_PREFIXES = ("numpy.core.", "numpy._core.")
_PUSHED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = {"INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "BINFLOAT", "FLOAT"}
_TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_OLD_BYTES = {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # Python 2's, of which pickletools makes Latin-1 text
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_IGNORED = {"PROTO", "FRAME", "STOP"}
_DTYPES = {"u1": np.uint8, "b1": np.bool_}
_MOST_AXES = 8
_MARK = object()


class UnpicklingError(ValueError):
    """A pickle is damaged, or holds what is not read here.

    Args:
        reason: What is wrong.
        offset: Byte of the instruction.
    """

    def __init__(self, reason: str, offset: int | None) -> None:
        super().__init__(reason, offset)
        self.reason, self.offset = reason, offset


class _Global(NamedTuple):
    """A name that the pickle wants from a module; nothing is looked up."""

    name: str


@dataclass
class _DType:
    code: str


@dataclass
class PickledArray:
    """An array, which in a pickle gets its content after it was made."""

    value: npt.NDArray[np.generic] | None = None


def unpickle(data: bytes) -> Any:
    """The value in a pickle: lists, tuples, bytes, text, numbers, None, and :class:`PickledArray` of uint8 or bool.

    Nothing that the pickle names is imported or called. Sizes that it claims are bound by the size of the data.

    Raises:
        UnpicklingError: If it is damaged, or holds anything else.
    """
    machine = _Machine()
    offset: int | None = 0
    try:
        for instruction, argument, place in pickletools.genops(data):
            offset = place
            machine.step(instruction.name, argument)
        return machine.result()
    except UnpicklingError as problem:
        raise UnpicklingError(problem.reason, offset) from problem
    except MemoryError:
        raise
    except Exception as problem:  # a damaged pickle asks for what is not on the stack, in any way
        raise UnpicklingError(f"damaged pickle ({str(problem)[:200] or type(problem).__name__})", offset) from problem


class _Machine:
    """Stack and memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        """What is left at the end."""
        if len(self.stack) != 1:
            raise UnpicklingError(f"damaged pickle ({len(self.stack)} values at its end)", None)
        return self.stack[0]

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction."""
        stack = self.stack
        if name in _BYTES:
            stack.append(bytes(argument))
        elif name in _OLD_BYTES:
            stack.append(argument.encode("latin-1"))
        elif name in _TEXTS or name in _NUMBERS:
            stack.append(argument)
        elif name in _PUSHED:
            stack.append(_PUSHED[name])
        elif name in _GETS:
            stack.append(self.memo[argument])
        elif name in _PUTS:
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in _TUPLES:
            size = _TUPLES[name]
            values = tuple(self._pop() for _ in range(size))
            stack.append(values[::-1])
        elif name not in _IGNORED:
            self._other(name, argument)

    def _other(self, name: str, argument: Any) -> None:
        method: Callable[[Any], None] | None = getattr(self, f"_do_{name.lower()}", None)
        if method is None:
            raise UnpicklingError(f"the instruction {name} is not read here: the file holds more than images", None)
        method(argument)

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise UnpicklingError("damaged pickle (a mark in place of a value)", None)
        return value

    def _to_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise UnpicklingError("damaged pickle (no mark)", None)
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def _do_mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _do_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _do_list(self, _: Any) -> None:
        self.stack.append(self._to_mark())

    def _do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._to_mark()))

    def _do_append(self, _: Any) -> None:
        value = self._pop()
        self._list().append(value)

    def _do_appends(self, _: Any) -> None:
        values = self._to_mark()
        self._list().extend(values)

    def _list(self) -> list[Any]:
        if not self.stack or type(self.stack[-1]) is not list:
            raise UnpicklingError("damaged pickle (values for a list that is none)", None)
        return self.stack[-1]

    def _do_global(self, argument: Any) -> None:
        self.stack.append(_global(*argument.split(" ", 1)))

    def _do_stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self.stack.append(_global(module, name))

    def _do_reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise UnpicklingError("damaged pickle (a call of what is no function)", None)
        self.stack.append(_made(function.name, arguments))

    def _do_build(self, _: Any) -> None:
        state, thing = self._pop(), self.stack[-1]
        if isinstance(thing, PickledArray) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, _, content = state
            thing.value = _array(content, dtype, shape)
        elif not isinstance(thing, _DType):  # a type's state is its byte order, of which a byte has none
            raise UnpicklingError("damaged pickle (a state for what has none)", None)


def _global(module: Any, name: Any) -> _Global:
    if not isinstance(module, str) or not isinstance(name, str):
        raise UnpicklingError("damaged pickle (a name that is no text)", None)
    for prefix in _PREFIXES:
        module = module.replace(prefix, "numpy.core.", 1) if module.startswith(prefix) else module
    full = f"{module}.{name}"
    allowed = {
        "numpy.core.multiarray._reconstruct": "array",
        "numpy.core.multiarray.scalar": "scalar",
        "numpy.core.numeric._frombuffer": "frombuffer",
        "numpy.ndarray": "ndarray",
        "numpy.dtype": "dtype",
        "_codecs.encode": "encode",
        "builtins.bytes": "bytes",
        "__builtin__.bytes": "bytes",
        "__builtin__.bytearray": "bytes",
        "builtins.bytearray": "bytes",
    }
    if full not in allowed:
        raise UnpicklingError(f"it asks for {full!r}, which no verification set needs: do not trust this file", None)
    return _Global(allowed[full])


def _made(function: str, arguments: tuple[Any, ...]) -> Any:
    """What a call would give, for the few calls by which bytes, arrays and their types are pickled."""
    match function, arguments:
        case "dtype", (str() | bytes() as code, *_):
            return _DType(code.decode("latin-1") if isinstance(code, bytes) else code)
        case "array", (_Global("ndarray"), tuple(), _):
            return PickledArray()
        case "scalar", (_DType() as dtype, bytes() as content):
            return _array(content, dtype, ()).item()
        case "frombuffer", (bytes() as content, _DType() as dtype, tuple() as shape, *_):
            return PickledArray(_array(content, dtype, shape))
        case "encode", (str() as text, "latin1" | b"latin1"):
            return text.encode("latin-1")
        case "bytes", ():
            return b""
        case "bytes", (bytes() as content,):
            return content
        case _:
            raise UnpicklingError(f"damaged pickle (a call for {function} that is not read here)", None)


def _array(content: Any, dtype: Any, shape: Any) -> npt.NDArray[np.generic]:
    code = dtype.code.lstrip("|") if isinstance(dtype, _DType) else repr(dtype)
    if code not in _DTYPES:
        raise UnpicklingError(f"arrays must be of uint8 or bool, got {code[:40]}", None)
    if not isinstance(content, bytes) or not isinstance(shape, tuple):
        raise UnpicklingError("damaged pickle (an array without bytes)", None)
    sizes = [size for size in shape if isinstance(size, int) and 0 <= size <= len(content)]
    if not len(sizes) == len(shape) <= _MOST_AXES or math.prod(sizes) != len(content):
        raise UnpicklingError(f"damaged pickle (an array has {len(content):,} bytes, unlike its shape)", None)
    return np.frombuffer(content, np.uint8 if code == "u1" else np.bool_).reshape(shape)

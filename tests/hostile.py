"""A script: operands that take each other's memory away while a call asks for something.

Each case is one call.  Something in it runs Python, which gives an operand (the victim) other
memory and releases the old one.  The call may raise or compute; reading or writing what was
released ends the process, because memory of this size is given back to the system at once.
"""

import gc
import itertools
import sys

import numpy as np
import relu_ext
from relu_ext._operations import OPERATIONS

try:
    import torch
    from torch.overrides import TorchFunctionMode
except ImportError:
    torch = None

SIZE = 1 << 16
ERRORS = (TypeError, ValueError, BufferError, RuntimeError, NotImplementedError)


def change(x):
    if isinstance(x, np.ndarray):
        x.resize(1, refcheck=False)
    else:
        x.set_(torch.zeros(1))


class Finalizer:
    """Garbage whose finalizer changes the victim; a collection begins at the next allocation."""

    def __init__(self, victim):
        self.victim, self.itself = victim, self

    def __del__(self):
        change(self.victim)


def with_finalizer(victim, call):
    Finalizer(victim)
    gc.set_threshold(1)
    try:
        call()
    finally:
        gc.set_threshold(700)


def with_mode(victim, call):
    class Changes(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            with torch._C.DisableTorchFunction():
                change(victim)
                return function(*args, **(kwargs or {}))

    with Changes():
        call()


class Number:
    """An operand that is asked for its value by one of several protocols."""

    def __init__(self, protocol, victim):
        self.victim = victim
        kind = type("Asked", (), {protocol: lambda _, *args, **keywords: self.answer(protocol)})
        if protocol == "__dlpack__":
            kind.__dlpack_device__ = lambda _: (1, 0)
        self.object = kind()

    def answer(self, protocol):
        change(self.victim)
        one = np.ones((), "f4")
        return {"__array__": one, "__dlpack__": one.__dlpack__()}.get(protocol, 1)


PROTOCOLS = ["__array__", "__dlpack__", "__float__", "__index__", "__buffer__"]


def operands(kinds):
    for kind in kinds:
        array = np.full((2, SIZE // 2), -1.0, "f4")
        yield array if kind == "ndarray" else torch.from_numpy(array).clone()


def elementwise(operation):
    """Each way to call an operation, as a function of its arrays and its parameter."""
    name = operation.parameter
    for function in (f"{operation.name}_", operation.name):
        yield lambda arrays, value, function=function: getattr(relu_ext, function)(
            *arrays, **({} if name is None else {name: value})
        )
    yield lambda arrays, value: getattr(relu_ext, operation.name)(
        *arrays, **({} if name is None else {name: value}), out=arrays[0]
    )


def calls():
    """(the number of arrays, whether there is a parameter, the call)."""
    for operation in OPERATIONS:
        for call in elementwise(operation):
            yield len(operation.arrays), operation.parameter is not None, call
    which = np.zeros((2, SIZE // 2), np.uint8)
    yield 1, True, lambda arrays, value: relu_ext.maxout(*arrays, value)
    yield 1, True, lambda arrays, value: relu_ext.maxout(*arrays, (value,), return_which=True)
    yield 1, True, lambda arrays, value: relu_ext.maxout_backward(*arrays, which, value)
    yield 1, True, lambda arrays, value: relu_ext.maxout_backward(*arrays, which, 2, value)
    for name in ("add_relu_backward", "add_leaky_relu_backward", "prelu_backward"):
        function, in_place = getattr(relu_ext, name), getattr(relu_ext, f"{name}_")
        yield 3, False, lambda arrays, _, function=function: function(*arrays)
        yield 3, False, lambda arrays, _, function=in_place: function(*arrays)
        yield 3, False, lambda arrays, _, f=function: f(*arrays, out=(arrays[0], None))
    yield 3, True, lambda arrays, value: relu_ext.add_leaky_relu_backward(*arrays, value)
    yield 3, True, lambda arrays, value: relu_ext.add_leaky_relu_backward_(*arrays, value)


def cases():
    """(what asks, the index of the victim, kinds of the arrays, the call, its parameter)."""
    kinds = ["ndarray"] + ["tensor"] * (torch is not None)
    for number, has_parameter, call in calls():
        for arrays in itertools.product(kinds, repeat=number):
            for victim in range(number):
                yield with_finalizer, victim, arrays, call, 0.5
                if torch is not None:
                    yield with_mode, victim, arrays, call, 0.5
                for protocol in PROTOCOLS:
                    if has_parameter:
                        yield None, victim, arrays, call, protocol
                    if number > 1 and victim < number - 1:
                        yield None, victim, (*arrays[:-1], protocol), call, 0.5


def run(asker, index, kinds, call, parameter):
    arrays = [*operands([kind for kind in kinds if kind in ("ndarray", "tensor")])]
    victim = arrays[index]
    if len(arrays) < len(kinds):
        arrays.append(Number(kinds[-1], victim).object)
    if isinstance(parameter, str):
        parameter = Number(parameter, victim).object
    try:
        if asker is None:
            call(arrays, parameter)
        else:
            asker(victim, lambda: call(arrays, parameter))
    except ERRORS:
        return False
    return True


if __name__ == "__main__":
    computed = [run(*case) for case in cases()]
    print(f"{len(computed)} calls, of which {sum(computed)} computed", file=sys.stdout)

from typing import Any

import numpy as np

def has_buffer(x: object) -> bool: ...
def array_over_capsule(
    name: str, capsule: object, kept: object = None
) -> tuple[np.ndarray[Any, Any] | None, bool]: ...

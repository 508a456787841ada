"""Whether a line is strict JSON, told by Python's own `json`: a second opinion on the codec."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def is_strict_json(line: bytes) -> bool | None:
    """Say whether `line` is one JSON text in UTF-8 without NaN or lone surrogates; None if too deep to tell."""
    try:
        text = line.decode()
        value = json.loads(
            text,
            parse_constant=_refuse,
            # Kept as they are written: a number of 5,000 digits is one.
            parse_int=str,
            parse_float=str,
            # A name given twice must not hide what stood under the first.
            object_pairs_hook=list,
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        return None
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def read(line: bytes) -> dict[str, Any]:
    """Read a line that must be an object in strict JSON."""
    assert is_strict_json(line), line[:500]
    message = json.loads(line)
    assert isinstance(message, dict), line[:500]
    return message

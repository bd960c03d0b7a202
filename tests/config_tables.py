"""What the tables of config_examples.py and config_examples_tls.py are made of."""

import json
from typing import Any, NamedTuple

Name = tuple[str, str]


class Example(NamedTuple):
    """One good value a source, and what each becomes; all differ from the default."""

    file: str
    environment: str
    command: object
    decoded: tuple[Any, Any, Any]


def plain(name: str, *values: Any) -> Example:
    """Return the example of a key whose values are their own decoding."""
    return Example(
        f"{name} = {json.dumps(values[0])}",
        str(values[1]),
        values[2],
        (values[0], values[1], values[2]),
    )

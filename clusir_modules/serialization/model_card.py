"""The model card of a saved network, as the Hugging Face Hub shows it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["CARD_NAME", "write_card"]

CARD_NAME = "README.md"
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


def write_card(net: nn.Module, config: Mapping[str, Any]) -> str:
    """Text of the card: class, size and settings of the network; its trainer adds data, results and license."""
    name = type(net).__name__
    settings = "\n".join(f"| `{key}` | `{json.dumps(value)}` |" for key, value in config.items())
    count = sum(parameter.numel() for parameter in net.parameters())
    summary = (inspect.getdoc(type(net)) or "").splitlines()[0]
    return _CARD.format(name=name, summary=summary, settings=settings, count=f"{count:,}")

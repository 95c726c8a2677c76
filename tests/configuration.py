"""Writes the page of the configuration from the settings: `python -m tests.configuration`."""

from __future__ import annotations

from streamer.config import describe, load
from tests.architecture import ROOT

PAGE = """# Configuration

Every setting with its default, as `streamer serve --print-config` prints it. A setting is read from a file (`--config
FILE`, TOML or JSON), then from the environment (`STREAMER_SECTION__KEY`), then from `--set section.key=value`.

```toml
{}
```
"""

if __name__ == "__main__":
    (ROOT / "docs/reference/configuration.md").write_text(PAGE.format(describe(load(environ={})).strip()))

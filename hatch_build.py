"""What a wheel carries from beside the packages; an editable installation reads it where it is."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = {
    ".streamlit/config.toml": "dashboard/_shipped/config.toml",
    "sample_images": "dashboard/_shipped/sample_images",
}


class CustomBuildHook(BuildHookInterface):
    """Adds `SHIPPED` to wheels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is built."""
        if version != "editable":
            build_data["force_include"].update(SHIPPED)

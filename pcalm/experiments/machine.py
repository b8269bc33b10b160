"""What a figure depends on besides the settings: the machine and the versions."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import torch

import pcalm


def environment(device: torch.device) -> dict[str, str | int]:
    """What a figure depends on besides the configuration: the machine and the versions."""
    return {
        "pcalm": pcalm.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
    }


def cpu_name() -> str:
    """The CPU as Linux names it; elsewhere what Python knows, which may be no more than "arm64"."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())

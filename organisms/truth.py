"""What is known of a planted organism."""

from pathlib import Path
from typing import Any


def truth_direction(adapter: Path) -> Any:
    """Unit direction [d_model] that a planted adapter writes, fp32."""
    from safetensors.torch import load_file

    weights = load_file(adapter / "adapter_model.safetensors")
    column = next(w for name, w in weights.items() if "lora_B" in name).float()[:, 0]
    return column / column.norm()

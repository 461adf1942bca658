"""Where bfloat16 is worth its name."""

from __future__ import annotations


def emulated() -> bool:
    """Whether PyTorch only emulates bfloat16 on this processor, which is several times slower than float32."""
    import torch  # here, as it takes a second that other runtimes do without

    return not torch.backends.cpu.get_cpu_capability().startswith("AVX512")

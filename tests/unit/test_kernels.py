"""Memory that a process keeps is not faulted in again."""

import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_kept_memory_is_not_faulted_in_again():
    """In a process of its own, for it cannot be taken back."""
    script = """
import resource, torch
from visionft.kernels import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.zeros(16 << 20).add_(1)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(); default = faults()
assert keep_memory()
for _ in range(3): faults()
print(default, faults())
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    default, kept = map(int, found.split())
    assert kept < 0.5 * default

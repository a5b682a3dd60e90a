"""Whether freed memory is used again, counted in the pages that the system had to clear."""

import subprocess
import sys

import pytest

from dpi_core.allocator import keep_freed_memory

PROGRAM = """
import resource, threading
import torch
from dpi_core.allocator import keep_freed_memory

if {keeps}:
    assert keep_freed_memory()

def make_and_free(times):
    for _ in range(times):
        made = [torch.zeros(2**20) for _ in range(4)]  # 4 MiB each
        del made

def pages():
    make_and_free(10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    make_and_free(50)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

{run}
"""
RUNS = {"main thread": "pages()", "worker": "worker = threading.Thread(target=pages); worker.start(); worker.join()"}


def cleared_pages(keeps: bool, run: str) -> int:
    program = PROGRAM.format(keeps=keeps, run=RUNS[run])
    return int(subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True).stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="only glibc can be told to keep freed memory")
@pytest.mark.parametrize("run", RUNS)
def test_freed_memory_is_used_again(run):
    assert cleared_pages(True, run) < cleared_pages(False, run) / 10

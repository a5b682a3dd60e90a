"""Whether freed memory is used again, counted in the pages that the system had to clear."""

import subprocess
import sys

import pytest

from dpi_core.allocator import keep_freed_memory

PROGRAM = """
import resource, threading
import torch
from dpi_core.allocator import keep_freed_memory

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


@pytest.mark.skipif(not keep_freed_memory(), reason="only glibc can be told to keep freed memory")
@pytest.mark.parametrize("run", RUNS)
def test_freed_memory_is_used_again(run):
    program = PROGRAM.format(run=RUNS[run])
    answer = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert int(answer) < 50 * 4 * 1024 / 100, "of the pages that 50 times 16 MiB are"

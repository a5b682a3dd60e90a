"""Whether freed memory is used again, in the same thread and in others."""

import subprocess
import sys

import pytest

from dpi_core import allocator
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


THREADS = """
import sys, threading
from pathlib import Path
from dpi_core import allocator

allocator._ARENAS = int(sys.argv[1])
assert allocator.keep_freed_memory()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def make_and_free(freed, over):
    made = [bytearray(2**20) for _ in range(32)]
    for block in made:
        block[::4096] = b"x" * 256
    del made, block
    freed.set()
    over.wait()

before, over = resident(), threading.Event()
threads = []
for _ in range(12):
    freed = threading.Event()
    threads.append(threading.Thread(target=make_and_free, args=(freed, over)))
    threads[-1].start()
    freed.wait()
print((resident() - before) // 2**20)
over.set()
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="only glibc can be told to keep freed memory")
def test_threads_use_one_anothers_freed_memory():
    """Twelve threads that live on have each made 32 MiB and freed it; with an arena for each, all of it is kept."""

    def kept(arenas):
        command = [sys.executable, "-c", THREADS, str(arenas)]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    assert kept(allocator._ARENAS) < 4 * 32 < 10 * 32 < kept(16)


GIVEN_BACK = """
from pathlib import Path
from dpi_core.allocator import give_back_freed_memory, keep_freed_memory

assert keep_freed_memory()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20

before = resident()
made = [b"x" * 2**20 for _ in range(200)]
between = [made[i] for i in range(0, 200, 20)]  # so that what is freed does not lie at the end
del made
kept = resident() - before
assert give_back_freed_memory()
print(kept, resident() - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="only glibc can be told to keep freed memory")
def test_freed_memory_goes_back_from_between_what_is_in_use():
    answer = subprocess.run([sys.executable, "-c", GIVEN_BACK], check=True, stdout=subprocess.PIPE, text=True).stdout
    kept, left = map(int, answer.split())
    assert kept > 190 and 10 <= left < 30, "200 MiB were made, 10 are still in use"

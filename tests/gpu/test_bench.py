"""The benchmark of the GPU runs, whatever times it prints."""

import importlib.util
import re
from pathlib import Path

import pytest


@pytest.mark.filterwarnings("ignore")  # of implicit, where it looks for its GPU build
def test_the_benchmark_prints_a_line_for_each_model(cupy, capsys):
    path = Path(__file__).parent.parent.parent / "benchmarks" / "bench_gpu.py"
    spec = importlib.util.spec_from_file_location("bench_gpu", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    bench.main(["--shape", "small", "--factors", "8", "--iterations", "2", "--queries", "20", "--cpu"])
    printed = capsys.readouterr().out
    assert re.search(r"small: 200 users, 100 items, [\d,]+ entries; memory [\d,]+ GB/s", printed)
    for line in (r"ALS +8 float32: .* ms per iteration, .* times the memory bound", r"BPR +8: .* ms per epoch"):
        assert re.search(line, printed)
    assert re.search(r"recommend: .* users per second in a batch of 20", printed)

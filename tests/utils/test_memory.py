"""What memory is left to this process."""

import numpy as np

from labelfix.utils.memory import anonymous_bytes, available_memory


def test_anonymous_memory_grows_with_an_array_that_is_written_to():
    before = anonymous_bytes()
    array = np.ones(1 << 23)
    assert anonymous_bytes() - before > 60 << 20
    assert array[-1] == 1


def test_what_is_available_is_below_what_the_machine_has():
    assert 1 << 20 < available_memory() < 1 << 50


def test_the_limit_of_a_group_above_counts_without_pages_of_files(tmp_path):
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (groups / "pod" / "box").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   9000000 kB\n")
    (proc / "self" / "cgroup").write_text("0::/pod/box\n")
    (groups / "pod" / "box" / "memory.max").write_text("max\n")
    (groups / "pod" / "box" / "memory.current").write_text("5\n")
    (groups / "pod" / "memory.max").write_text("1000\n")
    (groups / "pod" / "memory.current").write_text("700\n")
    (groups / "pod" / "memory.stat").write_text("anon 100\ninactive_file 50\n")
    assert available_memory(proc, groups) == 1000 - 700 + 50
    (proc / "self" / "cgroup").write_text("7:cpu,memory:/pod\n3:cpuset:/\n")
    (groups / "memory" / "pod").mkdir(parents=True)
    (groups / "memory" / "pod" / "memory.limit_in_bytes").write_text("400\n")
    (groups / "memory" / "pod" / "memory.usage_in_bytes").write_text("100\n")
    assert available_memory(proc, groups) == 300

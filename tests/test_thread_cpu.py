"""workers.monitoring.thread_cpu: what each thread costs, as Linux counts it."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.running import CHECKOUT, wait_until
from workers.monitoring.thread_cpu import ThreadCpu


def seconds(collector: ThreadCpu) -> dict[str, float]:
    (family,) = collector.collect()
    return {sample.labels["thread"]: sample.value for sample in family.samples}


def test_a_busy_thread_is_seen_under_its_name_and_counted_on_after_its_end() -> None:
    collector = ThreadCpu()
    before = seconds(collector).get("ingest", 0.0)
    with ThreadPoolExecutor(1, "ingest") as executor:
        stop = threading.Event()
        executor.submit(_spin, stop)
        busy = wait_until(lambda: max(seconds(collector)["ingest"] - before - 0.1, 0), "busy")
        stop.set()
    assert seconds(collector)["ingest"] >= before + busy


def test_threads_of_libraries_share_one_label() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=_spin, args=(stop,), name="a library's own")
    thread.start()
    collector = ThreadCpu()
    wait_until(lambda: seconds(collector).get("other", 0.0) > 0.05, "counted")
    stop.set()
    thread.join()
    assert "a library's own" not in seconds(collector)


def test_the_main_thread_is_the_loop_in_a_forked_process() -> None:
    code = (
        "import os, time\n"
        "from tests.test_thread_cpu import seconds\n"
        "from workers.monitoring.thread_cpu import ThreadCpu\n"
        "pid = os.fork()\n"
        "if pid: raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "while time.process_time() < 0.05: pass\n"
        "os._exit(0 if set(seconds(ThreadCpu())) == {'loop'} else 1)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False).returncode == 0


def _spin(stop: threading.Event) -> None:
    while not stop.is_set():
        time.perf_counter()

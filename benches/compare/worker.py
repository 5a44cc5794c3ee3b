"""One tool asked one workload in a process of its own, by the protocol of `benches/release/process.rs`."""

import importlib
import json
import sys
import time
import traceback

from workloads import WORKLOADS


def status(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def say(**line) -> None:
    print(json.dumps(line), flush=True, file=OUT)


def numbers(rows, keys: int) -> dict:
    """By the keys as text, the numbers of each group."""
    number = lambda value: None if value is None else float(value)
    return {"|".join(str(key) for key in row[:keys]): [number(value) for value in row[keys:]] for row in rows}


def main() -> None:
    tool, name, request = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    workload = WORKLOADS[name]
    try:
        module = importlib.import_module(f"tools.{tool}")
        version, ask = module.open(workload, request)
    except BaseException as error:  # A Rust panic is no Exception.
        say(error=describe(error))
        return
    say(ready=True, rss_kib=status("VmRSS"), version=version)
    for line in sys.stdin:
        start = time.perf_counter()
        try:
            rows = ask()
        except BaseException as error:
            say(error=describe(error))
            continue
        seconds = time.perf_counter() - start
        found = {"numbers": numbers(rows, len(workload.keys))} if line.strip() == "answer" else {}
        say(seconds=seconds, peak_kib=status("VmHWM"), **found)


def describe(error: BaseException) -> str:
    traceback.print_exc()
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


# Tools print what they like; only the protocol goes to standard output.
OUT, sys.stdout = sys.stdout, sys.stderr

if __name__ == "__main__":
    main()

"""Tollgate beside plain engines, bounds by hand and other privacy tools, in one run. See `run`.

Every system answers in a process of its own (`benches/release/process.rs` has the protocol). For each workload all
processes open the data, answer once untimed, and then answer in turn, so that the ratios are of one run. Memory is the peak
of each process (`VmHWM`, the kernel's own figure) above what it held when it had opened the data; a tool that loads the
data into memory to answer does so in its timed run.
"""

import argparse
import json
import math
import os
import selectors
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WORKLOADS = ["W1", "W2", "W3", "W4", "W5", "W6"]
# System, its module, its environment.
TOOLS = [
    ("DuckDB", "duckdb_sql", "duckdb"),
    ("by hand on DuckDB", "duckdb_sql", "duckdb"),
    ("smartnoise-sql", "smartnoise_sql", "smartnoise"),
    ("opendp with polars", "opendp_polars", "opendp"),
    ("pyqrlew", "qrlew_sql", "qrlew"),
]


class Failed(Exception):
    """What a worker said went wrong."""


class Worker:
    """A process that answers one question, over and over."""

    def __init__(self, name, command, environment, log, seconds_allowed):
        self.name, self.seconds_allowed = name, seconds_allowed
        self.seconds, self.error, self.numbers, self.peak_kib, self.version = [], None, {}, 0, ""
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=HERE
        )
        self.unread = b""
        self.peak_in_all_kib = 0
        try:
            ready = self.read()
            self.rss_kib, self.version = ready["rss_kib"], ready.get("version", "")
        except Failed as error:
            self.fail(error)

    def read(self):
        """One line of the protocol."""
        selector = selectors.DefaultSelector()
        selector.register(self.process.stdout, selectors.EVENT_READ)
        while b"\n" not in self.unread:
            if not selector.select(self.seconds_allowed):
                raise Failed(f"no answer within {self.seconds_allowed} s")
            read = os.read(self.process.stdout.fileno(), 1 << 20)
            if not read:
                raise Failed("the process ended")
            self.unread += read
        line, self.unread = self.unread.split(b"\n", 1)
        said = json.loads(line)
        if "error" in said:
            raise Failed(said["error"])
        return said

    def ask(self, what):
        """Answers once; nothing where it has failed before."""
        if self.error:
            return
        try:
            self.process.stdin.write(what.encode() + b"\n")
            self.process.stdin.flush()
            said = self.read()
        except (Failed, BrokenPipeError) as error:
            self.fail(error)
            return
        self.peak_kib = said["peak_kib"]
        if what == "answer":
            self.numbers = said["numbers"]
        else:
            self.seconds.append(said["seconds"])

    def fail(self, error):
        self.error = str(error) or type(error).__name__
        print(f"  {self.name}: {self.error}", file=sys.stderr)
        self.process.kill()

    def close(self):
        """Ends the process and takes its peak from the kernel."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.process.stdout.close()
        self.peak_in_all_kib = usage.ru_maxrss

    @property
    def median(self):
        return statistics.median(self.seconds) if self.seconds else math.nan

    @property
    def above_mb(self):
        return (self.peak_kib - self.rss_kib) * 1.024 / 1000 if self.seconds else math.nan


def differences(numbers, others):
    """The median and the largest relative difference over the numbers of the groups that both have."""
    found = [
        abs(number - other) / abs(other)
        for key, row in numbers.items()
        for number, other in zip(row, others.get(key, []))
        if number is not None and other not in (None, 0)
    ]
    return (statistics.median(found), max(found)) if found else (math.nan, math.nan)


def arguments():
    parser = argparse.ArgumentParser(prog="benches/compare/run", description="Compares Tollgate with other systems.")
    parser.add_argument("--bench", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--environments", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--all", action="store_true", help="every table: all layouts, 60 million rows, other tools")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="of W1 to W6")
    parser.add_argument("--layouts", default="delivered,optimised", help="on which Tollgate is asked beside other tools")
    parser.add_argument("--tools", default="all", help="names of other tools, with commas; all by default")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each")
    parser.add_argument("--factor", default=os.environ.get("TOLLGATE_BENCH_SF", "1"), help="six million rows times this")
    parser.add_argument("--large", default="10", help="the other factor of --all")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("TOLLGATE_BENCH_DIR", "/tmp/tpch")))
    parser.add_argument("--memory-mib", type=int, default=2048, help="what an engine may hold")
    parser.add_argument("--seconds", type=int, default=600, help="after which a tool is given up")
    return parser.parse_args()


def workers(given, workload, sql, rows, log):
    """One process for each system."""
    rust = ["--worker", "--workloads", workload, "--factor", given.factor, "--dir", str(given.dir)]
    rust += ["--memory-mib", str(given.memory_mib)]
    systems = [("DataFusion", "plain", "delivered"), ("by hand on DataFusion", "by-hand", "delivered")]
    systems += [(f"Tollgate, {layout}", "tollgate", layout) for layout in given.layouts.split(",")]
    started = []
    for name, system, layout in systems:
        command = [str(given.bench), *rust, "--systems", system, "--layouts", layout]
        started.append(Worker(name, command, None, log, given.seconds))
    wanted = given.tools.split(",")
    for name, module, environment in TOOLS:
        if given.tools != "all" and name not in wanted:
            continue
        request = {
            "file": str(given.dir / f"sf{given.factor}" / "delivered.parquet"),
            "sql": sql[workload]["by_hand" if name.startswith("by hand") else "sql"],
            "threads": os.cpu_count(),
            "memory_mib": given.memory_mib,
            "rows": rows,
        }
        python = given.environments / environment / "bin" / "python"
        if not python.exists() or not (python.parents[1] / "made-of").exists():
            print(f"  {name}: not installed, see {python.parents[1]}.log", file=sys.stderr)
            python = Path(sys.executable)
        command = [str(python), "worker.py", module, workload, json.dumps(request)]
        started.append(Worker(name, command, os.environ | {"PYTHONPATH": str(HERE)}, log, given.seconds))
    return started


def beside_tools(given):
    """The table of all systems on each workload."""
    target = given.environments
    bench = [str(given.bench), "--factor", given.factor, "--dir", str(given.dir)]
    sql = {line["workload"]: line for line in map(json.loads, output([*bench, "--sql"]).splitlines())}
    output([*bench, "--generate", "--layouts", f"delivered,{given.layouts}"])
    rows = int(float(given.factor) * 6_001_215)
    print(f"\n## Beside other tools: TOLLGATE_BENCH_SF={given.factor}, medians of {given.runs} runs in turn\n")
    versions = {}
    with open(target / "compare.log", "w", encoding="utf-8") as log, open(target / "compare.jsonl", "w", encoding="utf-8") as lines:
        for workload in given.workloads.split(","):
            print(f"{workload}", file=sys.stderr)
            asked = workers(given, workload, sql, rows, log)
            for worker in asked:
                worker.ask("answer")
            for _ in range(given.runs):
                for worker in asked:
                    worker.ask("run")
            for worker in asked:
                worker.close()
            plain, by_hand = asked[0], asked[1]
            fastest = min((worker for worker in asked if worker.name.startswith("Tollgate")), key=lambda worker: worker.median)
            print(f"\n{workload}: `{sql[workload]['sql']}`\n")
            print("| system | ms | ratio to DataFusion | times Tollgate's | MB above open data | MB in all | median difference | largest |")
            print("| --- | --- | --- | --- | --- | --- | --- | --- |")
            for worker in asked:
                versions[worker.name] = worker.version or versions.get(worker.name, "")
                middle, largest = differences(worker.numbers, by_hand.numbers)
                line = {
                    "workload": workload, "system": worker.name, "version": worker.version, "factor": given.factor,
                    "seconds": worker.seconds, "median_seconds": nothing(worker.median),
                    "ratio": nothing(worker.median / plain.median), "times_tollgate": nothing(worker.median / fastest.median),
                    "peak_above_mb": nothing(worker.above_mb), "peak_mb": worker.peak_in_all_kib * 1.024 / 1000,
                    "median_difference": nothing(middle), "largest_difference": nothing(largest),
                    "groups": len(worker.numbers), "error": worker.error,
                }  # fmt: skip
                print(json.dumps(line), file=lines, flush=True)
                if worker.error:
                    print(f"| {worker.name} | failed: {worker.error} |")
                    continue
                print(
                    f"| {worker.name} | {worker.median * 1000:.1f} | {line['ratio']:.2f} | {line['times_tollgate']:.1f} "
                    f"| {worker.above_mb:.0f} | {line['peak_mb']:.0f} | {middle:.5f} | {largest:.4f} |",
                    flush=True,
                )
    print("\nVersions: " + "; ".join(f"{name} {version}" for name, version in versions.items() if version))


def nothing(number):
    """JSON has no NaN."""
    return None if math.isnan(number) else number


def output(command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def layouts(given, factor, chosen):
    """The bench itself: its tables are its output; its lines are kept for the growth."""
    command = [str(given.bench), "--factor", factor, "--dir", str(given.dir), "--memory-mib", str(given.memory_mib), "--json"]
    command += ["--runs", str(given.runs)] + (["--layouts", chosen] if chosen else [])
    # It ends in failure where an answer is wrong, and the tables say which.
    found = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    (given.environments / f"release-sf{factor}.jsonl").write_text(found.stdout, encoding="utf-8")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    print(f"\n## Layouts: TOLLGATE_BENCH_SF={factor}, medians of {given.runs} runs in turn, engines of {given.memory_mib} MiB\n")
    print("| workload | system | layout | ms | ratio to plain as delivered | to plain on the same | MB above open data | median difference | largest |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    shown = lambda number, digits: "" if number is None else f"{number:.{digits}f}"
    for line in lines:
        start = f"| {line['workload']} | {line['system']} | {line['layout']} "
        if line["error"]:
            print(f"{start}| failed: {line['error'].splitlines()[0]} |")
            continue
        print(
            f"{start}| {shown(line['median_seconds'] * 1000, 1)} | {shown(line['ratio'], 2)} | {shown(line['ratio_same_layout'], 2)} "
            f"| {shown(line['peak_above_mb'], 0)} | {shown(line['median_difference'], 5)} | {shown(line['largest_difference'], 4)} |"
        )
    if found.returncode:
        print(f"\nThe bench failed: an answer is missing or wrong ({found.returncode}).")
    return {(line["workload"], line["system"], line["layout"]): line for line in lines}


def growth(small, large, factor):
    """Time over rows, from the small data to the large."""
    print(f"\n## Growth: time of {factor} times the rows, divided by {factor} times the time (1 is linear)\n")
    print("| workload | system | layout | growth |")
    print("| --- | --- | --- | --- |")
    for key, line in large.items():
        before = small.get(key)
        if before and before["median_seconds"] and line["median_seconds"]:
            print(f"| {' | '.join(key)} | {line['median_seconds'] / before['median_seconds'] / factor:.2f} |")


def main():
    given = arguments()
    if given.all:
        small = layouts(given, given.factor, None)
        large = layouts(given, given.large, "delivered,optimised,shuffled")
        growth(small, large, float(given.large) / float(given.factor))
    beside_tools(given)


if __name__ == "__main__":
    main()

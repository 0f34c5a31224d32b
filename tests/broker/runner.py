"""Runs the scenarios, a few at a time, each in a process of its own; see tests/broker/run --help."""
import argparse
import importlib
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import daemon as daemon_module  # noqa: E402
import scenarios  # noqa: E402
from cluster import ROOT, Cluster  # noqa: E402
from daemon import die_with_parent  # noqa: E402
from registry import SCENARIOS  # noqa: E402
from site_ import Site  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tests/broker/run", description="The promises, through a real Apache Kafka.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios to run, or beginnings of their names; all by default")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--long", action="store_true", help="the full figures instead of the short ones")
    parser.add_argument("--programs", default=os.environ.get("PETERD_PROGRAMS", os.path.join(ROOT, "build/release/bin")),
                        help="folder of peterd and peterctl (default: build/release/bin, or $PETERD_PROGRAMS)")
    parser.add_argument("--seed", type=int, default=1, help="of streams and of chaos (default 1)")
    parser.add_argument("--rounds", type=int, help="of chaos (default: 6, with --long 30)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of records")
    parser.add_argument("--events", help="a CSV of interactions for the long parity")
    parser.add_argument("--jobs", type=int, default=3, help="scenarios at a time (default 3)")
    parser.add_argument("--keep", action="store_true", help="keep the folder of logs and states")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--broker", help=argparse.SUPPRESS)
    return parser.parse_args()


def load():
    for module in pkgutil.iter_modules(scenarios.__path__):
        importlib.import_module("scenarios." + module.name)


def child(options):
    """One scenario, in its own process: the last line of its output is the note, the exit code the verdict."""
    entry = SCENARIOS[options.child]
    cluster = Cluster(options.broker or os.path.join(options.folder, "kafka"), entry.nodes)
    site = None
    try:
        cluster.start() if entry.own_broker else setattr(cluster, "bootstrap", open(cluster.folder + ".bootstrap").read())
        site = Site(options.child, cluster, options.folder, os.path.abspath(options.programs), options)
        entry.function(site)
        site.check_logs()
        print("; ".join(site.notes), flush=True)
        return 0
    except Exception as error:
        if not isinstance(error, AssertionError):
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    finally:
        if site:
            site.close()
        daemon_module.kill_all()
        if entry.own_broker:
            cluster.stop()


class Running:
    def __init__(self, name, options, folder, shared):
        self.name, self.folder, self.begun = name, os.path.join(folder, name), time.monotonic()
        os.makedirs(self.folder, exist_ok=True)
        entry = SCENARIOS[name]
        self.deadline = self.begun + entry.timeout_s * (20 if options.long else 1)
        self.output = os.path.join(self.folder, "output")
        command = [sys.executable, os.path.join(HERE, "runner.py"), "--child", name, "--folder", self.folder,
                   "--programs", options.programs, "--seed", str(options.seed), "--scale", str(options.scale)]
        command += ["--long"] if options.long else []
        command += ["--rounds", str(options.rounds)] if options.rounds else []
        command += ["--events", options.events] if options.events else []
        command += [] if entry.own_broker else ["--broker", shared.folder]
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                            preexec_fn=die_with_parent)

    def finished(self):
        """None while it runs; else (passed, text)."""
        code = self.process.poll()
        if code is None and time.monotonic() < self.deadline:
            return None
        if code is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.clean()
        text = open(self.output, errors="replace").read().strip()
        if code is None:
            text += "\ntimed out"
        return code == 0, text

    def abandon(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.clean()

    def clean(self):
        """What the child should have cleaned up itself, unless it was killed."""
        small = os.path.join(self.folder, "small")
        if os.path.ismount(small):
            subprocess.run(["umount", "-l", small], check=False)
        if SCENARIOS[self.name].own_broker:
            Cluster(os.path.join(self.folder, "kafka")).stop()


def run_all(names, options, folder):
    passed, failed, waiting, running = 0, [], list(names), []
    shared = Cluster(os.path.join(folder, "kafka"))
    try:
        if any(not SCENARIOS[n].own_broker for n in names):
            with open(shared.folder + ".bootstrap", "w") as out:
                out.write(shared.start())
        while waiting or running:
            while waiting and len(running) < options.jobs:
                running.append(Running(waiting.pop(0), options, folder, shared))
            time.sleep(0.1)
            for one in list(running):
                verdict = one.finished()
                if verdict is None:
                    continue
                running.remove(one)
                good, text = verdict
                seconds = time.monotonic() - one.begun
                if good:
                    passed += 1
                    print(f"ok   {one.name}  {seconds:.1f} s  {text.splitlines()[-1] if text else ''}", flush=True)
                else:
                    failed.append(one.name)
                    print(f"FAIL {one.name}  {seconds:.1f} s  (logs in {one.folder})", flush=True)
                    print("     " + "\n     ".join(text.splitlines()[-40:]), flush=True)
    finally:
        for one in running:
            one.abandon()
        shared.stop()
    return passed, failed


def main():
    def leave(number, _frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    options = parse_arguments()
    load()
    if options.child:
        return child(options)
    names = [n for n, s in SCENARIOS.items() if not s.long_only or options.long]
    if options.names:
        unknown = [w for w in options.names if not any(n.startswith(w) for n in SCENARIOS)]
        if unknown:
            print(f"no such scenario: {', '.join(unknown)}; --list names them", file=sys.stderr)
            return 64
        names = [n for n in SCENARIOS if any(n.startswith(w) for w in options.names)]
    if options.list:
        print("\n".join(names))
        return 0
    for program in ("peterd", "peterctl"):
        if not os.access(os.path.join(options.programs, program), os.X_OK):
            print(f"no {program} in {options.programs}: build first, or give --programs", file=sys.stderr)
            return 66
    # The longest first, so that the last ones to run are short.
    names.sort(key=lambda n: -SCENARIOS[n].timeout_s)
    folder = tempfile.mkdtemp(prefix="peterd-broker-")
    failed = names
    try:
        passed, failed = run_all(names, options, folder)
        print(f"{passed} passed, {len(failed)} failed", flush=True)
    finally:
        if not failed and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""More HTTP connections than the daemon takes."""
import socket
import threading
import time

import check
from registry import scenario
from scenarios.service import Notify

WATCHDOG_S = 2.0


class Watchdog(threading.Thread):
    """Notes the moments at which it is fed."""

    def __init__(self, notify):
        super().__init__(daemon=True)
        self.notify, self.over, self.fed = notify, threading.Event(), []

    def run(self):
        while not self.over.is_set():
            if self.notify.until("WATCHDOG=1", 0.2):
                self.fed.append(time.monotonic())

    def stop(self):
        """(times it was fed, the longest wait)"""
        self.over.set()
        self.join()
        return len(self.fed), max(b - a for a, b in zip(self.fed, [*self.fed[1:], time.monotonic()]))


def connect(daemon, count, send=b""):
    found = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", daemon.port), timeout=5)
        if send:
            one.sendall(send)
        found.append(one)
    return found


def wait_live(daemon, seconds):
    begun = time.monotonic()
    answer = daemon.get("/livez")
    while answer[0] != 200 and time.monotonic() - begun < seconds:
        answer = daemon.get("/livez")
    daemon.assert_alive()
    waited = time.monotonic() - begun
    assert waited < seconds, f"/livez does not answer for {waited:.1f} s: {answer}"
    return waited


@scenario(timeout_s=90)
def crowd(site):
    """200 connections that say nothing or half a request: they go or time out, and /livez answers again; the control loop
    feeds the watchdog all the while, and the stream goes on."""
    site.create(2)
    stream = site.stream(63)
    backbone = site.backbone(stream)
    notify = Notify(site.folder)
    daemon = site.daemon(backbone, env={"NOTIFY_SOCKET": notify.path, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))})
    try:
        watchdog = Watchdog(notify)
        watchdog.start()  # first: a full socket would block the daemon
        daemon.start().wait_ready()
        for leave, seconds in ((True, 10), (False, 25)):
            there = connect(daemon, 100) + connect(daemon, 100, b"GET /livez HTTP/1.1\r\nHost: a\r\n")
            site.produce(stream.take(100))
            site.settle(daemon=daemon, timeout=20)
            if leave:
                for one in there:
                    one.close()
            site.note(f"/livez {wait_live(daemon, seconds):.1f} s after {'they went' if leave else 'the last came'}")
            for one in there:
                one.close()
        # Exactly as many as there is room for, gone in one turn of the loop: nothing else wakes the listener.
        for _ in range(3):
            there = connect(daemon, 64)
            time.sleep(0.3)
            for one in there:
                one.close()
            wait_live(daemon, 2)
        times, longest = watchdog.stop()
        assert longest < WATCHDOG_S, f"the watchdog of {WATCHDOG_S} s was not fed for {longest:.2f} s"
        site.note(f"the watchdog fed {times} times, every {longest:.2f} s at most")
    finally:
        notify.close()
    inputs = site.settle(daemon=daemon)
    daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs)

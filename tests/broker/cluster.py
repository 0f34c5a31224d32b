"""A real Apache Kafka of one or three nodes in a folder, through tools/kafka: started, stopped, killed and started again on the same ports. Without a
`node`, all of them."""
import os
import subprocess
import time

from confluent_kafka.admin import AdminClient

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "kafka")


class Cluster:
    def __init__(self, folder, nodes=1):
        self.folder, self.nodes, self.bootstrap = os.path.abspath(folder), nodes, None

    @staticmethod
    def _node(node):
        return ("--node", str(node)) if node else ()

    def start(self, node=None):
        for _ in range(3):  # a start on a busy machine may give up too early; a second one goes on
            out = subprocess.run([TOOL, "start", self.folder, "--nodes", str(self.nodes), *self._node(node)],
                                 capture_output=True, timeout=180, text=True)
            if out.returncode == 0:
                break
        else:
            raise RuntimeError(f"tools/kafka start: {out.stderr.strip()[-400:]}")
        bootstrap = out.stdout.strip().splitlines()[-1]
        if self.bootstrap not in (None, bootstrap):
            raise RuntimeError(f"the broker came back elsewhere: {self.bootstrap}, now {bootstrap}")
        self.bootstrap = bootstrap
        self.wait()
        return bootstrap

    def wait(self, timeout=60):
        deadline = time.monotonic() + timeout
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200})
        while True:
            try:
                client.list_topics(timeout=2)
                return
            except Exception:
                if time.monotonic() > deadline:
                    raise TimeoutError("the broker does not answer")
                time.sleep(0.1)

    def kill(self, node=None):
        """kill -9, and waits until it is gone."""
        subprocess.run([TOOL, "kill", self.folder, *self._node(node)], check=True, capture_output=True, timeout=60)

    def pause(self, node=None):
        """SIGSTOP: connections stay and nobody answers."""
        subprocess.run([TOOL, "pause", self.folder, *self._node(node)], check=True, capture_output=True, timeout=60)

    def resume(self, node=None):
        subprocess.run([TOOL, "resume", self.folder, *self._node(node)], check=True, capture_output=True, timeout=60)

    def stop(self, node=None):
        if os.path.isdir(self.folder):
            subprocess.run([TOOL, "stop", self.folder, *self._node(node)], capture_output=True, timeout=90)

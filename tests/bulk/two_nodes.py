"""Two Ray nodes on this machine, and a bulk job on them that loses a process or a whole node in the middle.

    python two_nodes.py SOURCE DEST process|node

Prints JSON: what was lost, and the summary of the run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

from vlpart.bulk.run import bulk
from vlpart.bulk.worker import Done

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}


def descendants() -> list[tuple[int, str]]:
    """(number, title) of the processes that came from this one."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended meanwhile
            continue
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return [(pid, titles[pid]) for pid in found[1:]]


def main(source: str, dest: str, what: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    second = cluster.add_node(**NODE)
    lost: list[str] = []

    def lose(done: Done) -> None:
        workers = [pid for pid, title in descendants() if "BlockWorker" in title]
        if lost or len(workers) < 2:
            return
        if what == "node":
            cluster.remove_node(second, allow_graceful=False)
        else:
            os.kill(workers[-1], signal.SIGKILL)
        lost.append(f"{what} after block {done.block}, of {len(workers)} processes")

    try:
        summary = bulk(
            source,
            dest,
            vocabulary="person: hair, eye",
            short_side=96,
            block_size=2,
            workers=2,
            address=cluster.address,
            on_block=lose,
        )
        print(json.dumps({"lost": lost, **asdict(summary)}))
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])

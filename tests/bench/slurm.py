#!/usr/bin/env python3
"""How long a large Slurm cluster takes to read and judge, from saved outputs: prints, asserts nothing.

usage: cargo build --release && python3 tests/bench/slurm.py [NODES] [JOBS]
GPUWASTE names another binary.
"""
import base64, gzip, json, os, pathlib, resource, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("GPUWASTE", str(ROOT / "target/release/gpuwaste"))


def outputs(folder, nodes, jobs, now):
    """8 GPUs a node; every job has one, in turn, as long as there are some; the others wait. As many jobs in accounting."""
    recorded = ROOT / "fixtures/slurm/24.05"
    node = next(n for n in json.loads((recorded / "nodes.json").read_text())["nodes"] if n["name"] == "gpu1")
    every = json.loads((recorded / "jobs.json").read_text())["jobs"]
    runs = next(j for j in every if j["job_id"] == 1)
    waits = next(j for j in every if j["job_id"] == 9)
    held = min(jobs, nodes * 6)
    with open(folder / "nodes.json", "w") as out:
        out.write('{"nodes":[')
        for i in range(nodes):
            used = max(0, min(6, held - i * 6))
            of = {**node, "name": f"n{i:05}", "hostname": f"n{i:05}", "gres_used": f"gpu:h100:{used}(IDX:{f'0-{used - 1}' if used else 'N/A'})"}
            out.write("," * (i > 0) + json.dumps(of))
        out.write("]}")
    with open(folder / "jobs.json", "w") as out:
        out.write('{"jobs":[')
        for i in range(jobs):
            of = {**(runs if i < held else waits), "job_id": i + 1, "user_name": f"u{i % 500}"}
            if i < held:
                of.update(nodes=f"n{i // 6:05}", gres_detail=[f"gpu:h100:1(IDX:{i % 6})"], job_resources=json.loads(json.dumps(runs["job_resources"]).replace("gpu1", f"n{i // 6:05}")))
            out.write("," * (i > 0) + json.dumps(of))
        out.write("]}")
    (folder / "config.txt").write_text("ClusterName = big\nPrivateData = none\nSLURM_VERSION = 24.05.4\n")
    (folder / "taken.txt").write_text(str(now))
    text = json.dumps({"nodes": {"n": {"used_memory": 1e9, "gpu_utilization": {"0": 12.0}, "gpu_used_memory": {"0": 2e9}, "gpu_total_memory": {"0": 8e10}}}, "total_time": 7200, "gpus": 1})
    comment = "JS1:" + base64.b64encode(gzip.compress(text.encode())).decode()
    with open(folder / "sacct.txt", "w") as out:
        for i in range(jobs):
            out.write(f"{i + 1}|u{i % 500}|a{i % 40}|train|normal|7200|1440|billing=4,cpu=4,gres/gpu:h100=1,gres/gpu=1,mem=20000M,node=1|{now - 90000}|{now - 82800}|COMPLETED|n{i % nodes:05}|{comment if i % 2 else ''}|job {i}\n")


def main():
    nodes, jobs = (int(a) for a in (sys.argv[1:] + ["10000", "100000"][len(sys.argv) - 1:])[:2])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        outputs(folder, nodes, jobs, int(time.time()))
        for file in sorted(folder.iterdir()):
            print(f"{file.name:<12} {file.stat().st_size / 1e6:8.1f} MB")
        for what in (["collect", "--slurm-dir", folder, "-q", "-o", folder / "big.json.zst"], ["scan", "--snapshot", folder / "big.json.zst", "-q", "--format", f"json={folder}/report.json"]):
            began = time.perf_counter()
            done = subprocess.run([BINARY, *map(str, what)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            wall = time.perf_counter() - began
            if done.returncode not in (0, 1):
                raise SystemExit(f"{what[0]} ended with {done.returncode}: {done.stderr[-800:]}")
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(f"{what[0]:<12} {nodes} nodes, {jobs} jobs: {wall:.2f} s, peak of all so far {peak:.0f} MiB   target 20 s, 300 MiB", flush=True)


main()

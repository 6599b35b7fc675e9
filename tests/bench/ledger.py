#!/usr/bin/env python3
"""What the ledger and the book of facts cost; prints, asserts no time. Fleets are copies of the demo's, each with its own ids.

usage: cargo build --release && python3 tests/bench/ledger.py [scan] [settle] [learned]

GPUWASTE names another binary; RUNS another number of runs; SNAPSHOTS another length of the series.
"""
import copy, datetime, json, os, pathlib, re, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "testbed")]
from bench import BINARY, line, several

DEMO = HERE.parents[1] / "fixtures/demo/snapshot.json.zst"
RUNS = int(os.environ.get("RUNS", "3"))
SNAPSHOTS = int(os.environ.get("SNAPSHOTS", "500"))
AT = re.compile(r'"taken_at":\s*"[^"]*"')


def fleet(copies, without=()):
    """The demo so many times, as JSON text; pods of the namespaces `without` are gone."""
    demo = json.loads(subprocess.run(["zstd", "-dc", DEMO], check=True, capture_output=True).stdout)
    clusters = []
    for i in range(copies):
        for cluster in demo["clusters"]:
            own = copy.deepcopy(cluster)
            own["name"], own["uid"] = f"{own['name']}-{i}", f"{own.get('uid') or own['name']}-{i}"
            own["pods"] = [p for p in own["pods"] if p["namespace"] not in without]
            clusters.append(own)
    return json.dumps(demo | {"clusters": clusters}), demo["taken_at"]


def decided(at, folder, report):
    """Every finding claimed, by the tool itself."""
    checks = sorted({f["check"] for f in json.loads(report.read_text())["findings"]})
    for check in checks:
        subprocess.run([BINARY, "decide", "--check", check, "--subject", "*", "--yes", "claim", "--report", report, "--ledger", folder, "--until", "2027-12-31"],
                       check=True, cwd=at, capture_output=True, env=os.environ | {"SOURCE_DATE_EPOCH": "1795694400"})
    return len(list(folder.glob("*.toml")))


def scan(at):
    # A fleet of this size needs more than is allowed by default.
    os.environ.setdefault("GPUWASTE_MEMORY_MIB", "2048")
    text, _ = fleet(int(os.environ.get("COPIES", "180")))
    snapshot, report, folder = at / "large.json", at / "large-report.json", at / "large.ledger"
    snapshot.write_text(text)
    what = [BINARY, "scan", "--snapshot", snapshot, "-q"]
    subprocess.run([*what, "--format", f"json={report}"], check=True, stdout=subprocess.DEVNULL)
    entries = decided(at, folder, report)
    plain = several(what, "", RUNS)
    kept = several([*what, "--ledger", folder], "10 % more", RUNS)
    line("scan", plain)
    line(f"scan --ledger, {entries} findings", kept, f"; {100 * (kept['best'] / plain['best'] - 1):.1f} % more wall, {100 * (kept['cpu'] / plain['cpu'] - 1):.1f} % more CPU")


def series(at):
    """Snapshots an hour apart; in the second half some work is gone."""
    before, start = fleet(7)
    after, _ = fleet(7, {"eval", "reasoning"})
    start = datetime.datetime.fromisoformat(start[:19])
    paths = []
    for i in range(SNAPSHOTS):
        text = before if i < SNAPSHOTS // 2 else after
        path = at / f"{i:04}.json.zst"
        now = AT.sub(f'"taken_at": "{(start + datetime.timedelta(hours=i)).isoformat()}Z"', text, count=1)
        subprocess.run(["zstd", "-q", "-o", path], input=now.encode(), check=True)
        paths.append(path)
    return paths


def settle(at, paths):
    report, folder = at / "report.json", at / "series.ledger"
    subprocess.run([BINARY, "scan", "--snapshot", paths[0], "-q", "--format", f"json={report}"], check=True, stdout=subprocess.DEVNULL)
    gpus = json.loads(report.read_text())["totals"]["gpus"]
    entries = decided(at, folder, report)
    line(f"settle, {len(paths)} x {gpus} GPUs, {entries} findings", several([BINARY, "settle", "--ledger", folder, "--dry-run", *paths], "60 s, 300 MiB", 1))


def learned(at, paths):
    facts = at / "facts.json"
    line(f"learned --from {len(paths)} snapshots", several([BINARY, "learned", "--from", *paths, "-o", facts], "-", 1), f"; {facts.stat().st_size / 1e3:.0f} kB, {len(json.loads(facts.read_text())['facts'])} facts")
    what = [BINARY, "scan", "--snapshot", paths[0], "-q"]
    # Of other servers than those of the fleet, or nothing would be looked at.
    told = json.loads(facts.read_text())
    for i, fact in enumerate(told["facts"]):
        fact["server"] = f"{i:016x}"
    facts.write_text(json.dumps(told))
    plain, with_facts = several(what, "", RUNS), several([*what, "--learned", facts], "-", RUNS)
    line("scan", plain)
    line("scan --learned", with_facts)


def main():
    wanted = sys.argv[1:] or ["scan", "settle", "learned"]
    with tempfile.TemporaryDirectory() as folder:
        at = pathlib.Path(folder)
        if "scan" in wanted:
            scan(at)
        paths = series(at) if {"settle", "learned"} & set(wanted) else []
        if "settle" in wanted:
            settle(at, paths)
        if "learned" in wanted:
            learned(at, paths)


if __name__ == "__main__":
    main()

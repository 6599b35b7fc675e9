#!/usr/bin/env python3
"""The fault matrix of Slurm's commands: each of them failing in each way. Nothing rises, no gate that was breached passes, and the fault is named.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_slurm.py
"""
import json, os, pathlib, stat, sys, tempfile, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from world import gpuwaste

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: What each command answers, by words of its arguments.
READS = {"release": ("sinfo", "--version"), "config": ("scontrol", "config"), "nodes": ("scontrol", "nodes"), "jobs": ("squeue", "--json"), "accounting": ("sacct", "-X")}
FAULTS = {
    "missing": "exit 127", "refused": "echo 'slurm_load: Access/permission denied' >&2; exit 1", "away": "echo 'Unable to contact slurm controller' >&2; exit 1", "empty": "exit 0", "garbage": "head -c 4096 /dev/urandom",
    "cut": 'answer | head -c "$(($(answer | wc -c) / 2))"', "other kind": "echo '{\"meta\":{},\"reservations\":[]}'", "null": "echo null", "no items": "echo '{\"nodes\":null,\"jobs\":null}'", "errors": "echo '{\"nodes\":[],\"jobs\":[],\"errors\":[{\"error\":\"denied\"}]}'; exit 1", "html": "echo '<html>log in</html>'", "hangs": "sleep 60", "lingers": "answer; sleep 60 & exit 0", "endless": "yes '{' | head -c 3000000000",
}


class Slurm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)

    def commands(self, failing=None, fault=""):
        place = pathlib.Path(self.folder.name) / f"{failing}-{fault}".replace(" ", "-")
        place.mkdir(exist_ok=True)
        answers = {"release": "echo 'slurm 24.05.3'", "config": "printf 'ClusterName = test\\nPrivateData = none\\n'", "nodes": f"cat {ROOT}/fixtures/slurm/24.05/nodes.json", "jobs": f"cat {ROOT}/fixtures/slurm/24.05/jobs.json", "accounting": "true"}
        for command in ("sinfo", "scontrol", "squeue", "sacct"):
            lines = ["#!/bin/bash"]
            for read, (of, word) in READS.items():
                if of == command:
                    body = FAULTS[fault] if read == failing else answers[read]
                    lines += [f'if [[ " $* " == *" {word} "* ]]; then', f"answer() {{ {answers[read]}; }}", body, "exit; fi"]
            # Whatever else is tried instead is not there.
            path = place / command
            path.write_text("\n".join([*lines, "exit 1"]) + "\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return place

    def scan(self, place, *args):
        done = gpuwaste("scan", "--slurm", "--prometheus", "none", "--timeout", "1s", "--format", "json", "--min-coverage", "0.001", *args, env={"PATH": f"{place}:{os.environ['PATH']}"})
        self.assertNotRegex(done.stderr, "panicked|RUST_BACKTRACE")
        return done, (json.loads(done.stdout) if done.stdout else None)

    def test_every_command_failing_in_every_way(self):
        sound = self.commands()
        _, whole = self.scan(sound)
        before = whole["totals"]
        self.assertGreater(before["waste_usd_per_hour"], 1)
        gate = ("--max-waste", str(before["waste_usd_per_hour"] - 0.01), "--gate-confidence", "assumed")
        self.assertEqual(self.scan(sound, *gate)[0].returncode, 1)
        # What was called one thing may be called another with less known; the same GPUs are never dearer.
        on = lambda report: {name: sum(f["usd_per_hour"] or 0 for f in report["findings"] if f["subject"]["name"] == name) for name in {f["subject"]["name"] for f in report["findings"]}}
        money = on(whole)
        rows = {}
        for read in READS:
            for fault in FAULTS:
                with self.subTest(read, fault=fault):
                    done, report = self.scan(self.commands(read, fault), *gate)
                    rows.setdefault(read, []).append(f"{fault}:{done.returncode}")
                    if report is None:
                        self.assertEqual(done.returncode, 2, done.stderr)
                        continue
                    after = report["totals"]
                    same = all(after[k] == before[k] for k in ("waste_usd_per_hour", "coverage_percent", "gpus"))
                    self.assertIn(done.returncode, (1, 3), done.stderr)
                    for key in ("waste_usd_per_hour", "at_risk_usd_per_hour", "coverage_percent"):
                        self.assertLessEqual(after[key] or 0, (before[key] or 0) + 1e-6, key)
                    for name, usd in on(report).items():
                        self.assertLessEqual(usd, money.get(name, 0) + 1e-6, name)
                    told = [g for g in report["gaps"] if g not in whole["gaps"]] or [s for s in report["sources"] if s not in whole["sources"]]
                    self.assertTrue(told or (same and read in ("release", "accounting")), report["gaps"])
        print("\n" + "\n".join(f"{read:12}" + "  ".join(row) for read, row in rows.items()), file=sys.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=1)

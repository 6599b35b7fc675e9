#!/usr/bin/env python3
"""A gate is a promise: whatever read fails, and however, no gate goes from 1 to 0, nothing rises, and the fault is named.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_gates.py
"""
import pathlib, re, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fake
from world import deployment, node, owned, page, scan

READS = {
    "deployments": "/deployments", "replicasets": "/replicasets", "nodes": "/api/v1/nodes", "pods": r"/api/v1/pods(\?|$)", "autoscalers": "/horizontalpodautoscalers",
    "budgets": "/poddisruptionbudgets", "groups": r"/apis$", "kube-system": "/namespaces/kube-system$", "slices": "/resourceslices", "claims": "/resourceclaims", "a server's page": r"/pods/loop[^/]*/proxy/metrics",
}
NEVER_CHANGES_A_FINDING = {"kube-system"}


class Gates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fleet = [node("gpu-1"), node("gpu-2"), owned("loop", "gpu-1", gpus=4, crash=True), *deployment("loop"), owned("web", "gpu-2", gpus=8), *deployment("web")]
        cls.pages = {("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(90000, running=3)}

    def scan(self, answer=None, of=None, *args):
        world = fake.World(self.fleet, pages=self.pages)
        with fake.serve(world, *([answer, of] if answer else [])) as server, fake.config(server) as config:
            return scan(config, "--prometheus", "none", "--observe", "0", "--timeout", "3s", *args)

    def test_no_fault_turns_a_gate_green(self):
        gates = []
        done, whole = self.scan()
        totals = whole["totals"]
        for flag, figure in (("--max-waste", "waste_usd_per_hour"), ("--max-at-risk", "at_risk_usd_per_hour")):
            if totals[figure] > 0.02:
                gates += [(flag, "0.01"), (flag, str(totals[figure] - 0.01))]
        self.assertGreaterEqual(len(gates), 2, totals)
        rows = []
        for what, path in READS.items():
            for fault in ("403", "404-bare", "500", "garbage", "other-kind", "cut"):
                if fault not in fake.FAILURES:
                    self.fail(f"{fault} is no fault: {sorted(fake.FAILURES)}")
                with self.subTest(what, fault=fault):
                    codes = []
                    for flag, limit in gates:
                        done, report = self.scan(fake.FAILURES[fault], re.compile(path).search, flag, limit, "--gate-confidence", "assumed", "--min-coverage", "10")
                        codes.append(done.returncode)
                        if report is None:
                            self.assertEqual(done.returncode, 2, done.stderr)
                            continue
                        self.assertIn(done.returncode, (1, 3), f"{flag} {limit}: {done.stderr}")
                        after = report["totals"]
                        self.assertLessEqual(after["waste_usd_per_hour"] or 0, totals["waste_usd_per_hour"] + 1e-6)
                        self.assertLessEqual(after["coverage_percent"] or 0, totals["coverage_percent"] + 1e-6)
                    rows.append(f"{what:16} {fault:12} {codes}")
        print("\n" + "\n".join(rows), file=sys.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=1)

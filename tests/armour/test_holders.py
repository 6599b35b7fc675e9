#!/usr/bin/env python3
"""What requests a GPU holds it, whatever its image, name or label says.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_holders.py
"""
import pathlib, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fake
from world import GPU, node, pod, scan

ARGS = ("--no-scrape", "--prometheus", "none")
IMAGES = ["acme/dcgm-exporter:4", "evil/k8s-device-plugin:1", "x/gpu-driver:1", "x/node-feature-discovery", "x/all-smi", "registry.k8s.io/pause:3.10", "x/pause", "x/overprovisioner",
          "x/nginx", "x/envoyproxy", "x/epp", "x/jupyter", "x/storage-initializer", "x/kube-rbac-proxy", "vllm/vllm-openai", "busybox"]


class Holders(unittest.TestCase):
    def test_by_image(self):
        for image in IMAGES:
            with self.subTest(image), fake.serve(fake.World([node("gpu-1"), pod("p", "gpu-1", gpus=4, image=image, args=())])) as server, fake.config(server) as config:
                done, report = scan(config, *ARGS)
                self.assertEqual(done.returncode, 0, done.stderr)
                totals = report["totals"]
                self.assertEqual((totals["gpus_allocated"], totals["gpus_free"], totals["gpus_working"]), (4, 4, 0), report["findings"])
                free = [f for f in report["findings"] if f["part"] == "unallocated"]
                self.assertAlmostEqual(free[0]["waste_usd_per_hour"], 4 * GPU, places=5)

    def test_by_name_label_and_owner(self):
        for more in ({"labels": {"app": "nvidia-dcgm-exporter", "app.kubernetes.io/component": "gpu-operator"}}, {"owner": ("apps/v1", "DaemonSet", "nvidia-device-plugin")}, {"ns": "kube-system"}):
            with self.subTest(str(more)), fake.serve(fake.World([node("gpu-1"), pod("nvidia-dcgm-exporter-x7k2p", "gpu-1", gpus=4, image="x/y", args=(), **more)])) as server, fake.config(server) as config:
                _, report = scan(config, *ARGS)
                self.assertEqual((report["totals"]["gpus_allocated"], report["totals"]["gpus_free"]), (4, 4))

    def test_a_priority_below_zero_is_a_placeholder(self):
        """It gives its place to whoever asks: Kubernetes says so, no name does."""
        with fake.serve(fake.World([node("gpu-1"), pod("p", "gpu-1", gpus=4, image="registry.k8s.io/pause:3.10", args=(), priority=-10)])) as server, fake.config(server) as config:
            _, report = scan(config, *ARGS)
        self.assertEqual((report["totals"]["gpus_allocated"], report["totals"]["gpus_working"]), (4, 4))

    def test_an_exporter_holds_nothing(self):
        with fake.serve(fake.World([node("gpu-1"), pod("dcgm", "gpu-1", gpus=0, ns="gpu-operator", image="nvcr.io/nvidia/k8s/dcgm-exporter:4", args=())])) as server, fake.config(server) as config:
            _, report = scan(config, *ARGS)
        self.assertEqual((report["totals"]["gpus_allocated"], report["totals"]["gpus_free"]), (0, 8))


if __name__ == "__main__":
    unittest.main(verbosity=1)

#!/usr/bin/env python3
"""What holds GPUs, parts of them, or none yet, and what exporters and labels contradict: each with what is true of it said first.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/situations/test_shares.py
"""
import json, subprocess, unittest

import test_manifests as manifests
import test_situations as situations
from test_manifests import BINARY, SMALL, deployment, job, of, spec
from test_situations import DAY, GPU, NODE, NOW, dcgm, exporter, fake, node, owned, page, pod, shown
from test_situations import deployment as live


class Plans(manifests.Manifests):
    def selecting(self, select, resources=None, annotations=None, **more):
        made = deployment(args=["--model", SMALL, "--max-model-len", "8192"], select=select, **more)
        template = made["spec"]["template"]
        if resources:
            template["spec"]["containers"][0]["resources"] = {"limits": resources}
        template["metadata"]["annotations"] = annotations or {}
        self.check(made)
        return self.totals

    # --- what is switched off, or kept up ---

    def test_what_is_suspended_holds_nothing(self):
        """Jobs, their sets and clusters by `suspend`, notebooks and KServe by an annotation. What Kueue holds back will run."""
        gpus = lambda *objects: (self.check(*objects), self.totals["gpus"])[1]
        train = lambda: {"replicas": 2, "template": {"spec": spec(image="acme/train:1", gpus=8)}}
        queue = {"metadata": {"name": "j", "namespace": "ml", "labels": {"kueue.x-k8s.io/queue-name": "team"}}}
        for off in (False, True):
            for made, expected in (
                (job({"parallelism": 2, "suspend": off}), 2),
                (of("CronJob", "c", {"schedule": "0 3 * * *", "suspend": off, "jobTemplate": {"spec": job({})["spec"]}}, version="batch/v1"), 1),
                (of("JobSet", "j", {"suspend": off, "replicatedJobs": [{"name": "w", "replicas": 2, "template": {"spec": job({"parallelism": 4})["spec"]}}]}, version="jobset.x-k8s.io/v1alpha2"), 8),
                (of("PyTorchJob", "p", {"runPolicy": {"suspend": off}, "pytorchReplicaSpecs": {"Worker": train()}}, version="kubeflow.org/v1"), 16),
                (of("RayJob", "r", {"suspend": off, "rayClusterSpec": {"headGroupSpec": {"template": {"spec": {"containers": [{"name": "h", "image": "rayproject/ray:2.40.0"}]}}}, "workerGroupSpecs": [{"groupName": "g", **train()}]}}, version="ray.io/v1"), 16),
            ):
                self.assertEqual(gpus(made), 0 if off else expected, (made["kind"], off))
                self.assertEqual(gpus({**made, **queue}), expected, (made["kind"], off))
        group = lambda **more: of("RayCluster", "r", {"headGroupSpec": {"template": {"spec": {"containers": [{"name": "h", "image": "rayproject/ray:2.40.0"}]}}}, "workerGroupSpecs": [{"groupName": "a", **train()}, {"groupName": "b", **train(), **more}]}, version="ray.io/v1")
        self.assertEqual((gpus(group()), gpus(group(suspend=True))), (32, 16))
        book = of("Notebook", "n", {"template": {"spec": spec(image="jupyter/x:1")}}, version="kubeflow.org/v1")
        self.assertEqual(gpus(book), 1)
        book["metadata"]["annotations"] = {"kubeflow-resource-stopped": "2026-01-01T00:00:00Z"}
        self.assertEqual(gpus(book), 0)
        served = of("InferenceService", "i", {"predictor": {"model": {"modelFormat": {"name": "huggingface"}, "args": ["--model_id=" + SMALL], "resources": {"limits": {"nvidia.com/gpu": "1"}}}}}, version="serving.kserve.io/v1beta1")
        self.assertEqual(gpus(served), 1)
        served["metadata"]["annotations"] = {"serving.kserve.io/stop": "true"}
        self.assertEqual(gpus(served), 0)

    def test_what_an_autoscaler_keeps(self):
        """Three stand where it keeps three, whatever the Deployment says; at 0 it is switched off."""
        scaler = lambda kind, key, n: of(kind, "h", {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, key: n, "maxReplicas": 9}, version="autoscaling/v2")
        for stated, least, expected in ((1, 3, 3), (4, 3, 4), (0, 3, 0)):
            for kind, key in (("HorizontalPodAutoscaler", "minReplicas"), ("ScaledObject", "minReplicaCount")):
                self.check(deployment(args=["--model", SMALL], replicas=stated), scaler(kind, key, least))
                self.assertEqual(self.totals["gpus"], expected, (kind, stated))

    def test_workloads_of_runai(self):
        """Its own kinds ask in their own words: named, not silent."""
        for kind, asks in (("TrainingWorkload", {"gpu": {"value": "0.5"}}), ("DistributedWorkload", {"gpuDevices": {"value": 8}, "numWorkers": {"value": 3}}), ("InteractiveWorkload", {"gpuPortionRequest": {"value": "0.1"}})):
            self.check(of(kind, "w", {**asks, "image": {"value": "acme/x:1"}}, version="run.ai/v2alpha1"))
            self.assertTrue([g for g in self.report["gaps"] if f"{kind} w" in g["what"]], kind)

    # --- parts of cards ---

    def test_nodes_that_hand_out_a_card_several_times(self):
        """A replica of a shared card is no card, and costs nobody knows what: not 0."""
        for select in ({"nvidia.com/gpu.product": "NVIDIA-L4-SHARED"}, {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.sharing-strategy": "time-slicing"}, {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.replicas": "4"}, {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-gpu-sharing-strategy": "mps"}):
            totals = self.selecting(select)
            self.assertEqual((totals["gpus"], totals["spend_usd_per_hour"], totals["waste_usd_per_hour"], totals["gpus_uncounted"]), (0, None, None, True), select)
        for select in ({"nvidia.com/gpu.product": "NVIDIA-L4"}, {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.replicas": "1"}):
            self.assertEqual(self.selecting(select)["gpus"], 1, select)
        affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L4-SHARED"]}]}]}}}
        made = deployment(args=["--model", SMALL], select={})
        made["spec"]["template"]["spec"]["affinity"] = affinity
        self.check(made)
        self.assertIsNone(self.totals["spend_usd_per_hour"])

    def test_schedulers_that_cut_cards_by_resources_of_their_own(self):
        for resources in ({"koordinator.sh/gpu-core": "50", "koordinator.sh/gpu-memory-ratio": "50"}, {"tke.cloud.tencent.com/qgpu-core": "30", "tke.cloud.tencent.com/qgpu-memory": "8"}, {"k8s.amazonaws.com/vgpu": "2"}, {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "8000"}, {"volcano.sh/vgpu-number": "1"}):
            totals = self.selecting({"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}, resources)
            self.assertEqual((totals["gpus"], totals["spend_usd_per_hour"]), (0, None), resources)
            self.assertTrue([g for g in self.report["gaps"] if "shares" in g["reason"]], resources)

    def test_machines_with_a_part_of_a_card(self):
        """A sixth of an A10 has 4 GB: no model is judged by the whole card, and the machine costs what it costs."""
        for kind, part in (("Standard_NV6ads_A10_v5", 1 / 6), ("Standard_NV18ads_A10_v5", 1 / 2), ("vcg-a40-1c-5g-2gb-vram", 1 / 24)):
            totals = self.selecting({"node.kubernetes.io/instance-type": kind})
            self.assertAlmostEqual(totals["gpus"], part, places=6)
            self.assertFalse([f for f in self.report["findings"] if f["check"] in ("undersized-tier", "oversized-tier")])
            assessed = [c["assessed_gpus"] for c in self.report["checks"] if c["id"] == "undersized-tier"]
            self.assertEqual(assessed, [0], kind)
        self.assertAlmostEqual(self.selecting({"node.kubernetes.io/instance-type": "Standard_NV6ads_A10_v5"})["spend_usd_per_hour"], 0.454, places=3)
        self.assertEqual(self.selecting({"node.kubernetes.io/instance-type": "Standard_NV36ads_A10_v5"})["gpus"], 1)

    def test_families_of_machines(self):
        """Every g6e has L40S; of g6f, which have parts, and of two families nobody knows."""
        self.selecting({"karpenter.k8s.aws/instance-family": "g6e"})
        self.assertEqual(self.alone()["gpu"], "L40S")
        self.selecting({"eks.amazonaws.com/instance-family": "p5"})
        self.assertIn("H100", self.alone()["gpu"])
        self.selecting({"karpenter.k8s.aws/instance-family": "g6f"})
        self.assertIsNone(self.alone()["gpu"])


class Live(situations.Situations):
    def test_what_is_reserved_is_paid_anyway(self):
        """GKE's reservations and AWS' by their labels: no node that is removed ends the bill."""
        for labels, provider in (({"cloud.google.com/reservation-name": "r", "cloud.google.com/gke-accelerator": "nvidia-h100-80gb", "node.kubernetes.io/instance-type": "a3-highgpu-8g", "topology.kubernetes.io/region": "us-central1"}, "gce://p/z/n"), ({"karpenter.k8s.aws/capacity-reservation-id": "cr-1", "karpenter.sh/capacity-type": "reserved"}, None)):
            made = node("gpu-1", labels=labels)
            if provider:
                made["spec"]["providerID"] = provider
                made["metadata"]["labels"].pop("karpenter.sh/capacity-type")
            self.judge([made])
            [free] = self.found("dark-capacity", "unallocated")
            self.assertEqual((free["grade"], free["waste_now_usd_per_hour"]), ("reusable", 0), labels)
            self.assertNotIn("cale the pool down", free["fix"]["summary"])
        self.judge([node("gpu-1")])
        self.assertEqual(self.found("dark-capacity", "unallocated")[0]["grade"], "now")

    def test_a_hot_device_that_may_be_the_pods(self):
        """An exporter that names no pods: one hot card beside one pod is its own, as like as not. Beside none it is nobody's."""
        rows = lambda hot: "".join(f'nvidia_smi_utilization_gpu_ratio{{uuid="{i}"}} {0.95 if i in hot else 0}\nnvidia_smi_power_draw_watts{{uuid="{i}"}} {600 if i in hot else 70}\n' for i in range(8))
        page_of = lambda hot: {("gpu-operator", "dcgm-gpu-1", 9400, "/metrics"): rows(hot), ("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(0)}
        web = [owned("web", "gpu-1", gpus=1), *live("web")]
        for objects, hot, unmanaged in ((web, {3}, 0), (web, {3, 4}, 1), ([], {3}, 1)):
            self.judge([node("gpu-1"), exporter("gpu-1"), *objects], page_of(hot))
            self.assertEqual(len(self.found("dark-capacity", "unmanaged")), unmanaged, hot)
            self.assertFalse(self.found("dark-capacity", "idle"))

    def test_figures_that_are_none(self):
        """NaN, and DCGM's value for "blank": the exporter saw nothing, and a calm device no more than a busy one."""
        for value in ("NaN", "9223372036854775794"):
            rows = "".join(f'DCGM_FI_DEV_GPU_UTIL{{gpu="{i}",UUID="GPU-{i}",modelName="NVIDIA H100 80GB HBM3"}} {value}\nDCGM_FI_DEV_POWER_USAGE{{gpu="{i}",UUID="GPU-{i}",modelName="NVIDIA H100 80GB HBM3"}} {value}\n' for i in range(8))
            self.judge([node("gpu-1"), exporter("gpu-1"), owned("web", "gpu-1", gpus=1), *live("web")], {("gpu-operator", "dcgm-gpu-1", 9400, "/metrics"): rows, ("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(0)})
            self.assertFalse(self.found("dark-capacity", "idle"), value)

    def test_pods_that_the_node_refused(self):
        """UnexpectedAdmissionError and evictions leave pods behind that hold nothing."""
        for reason in ("UnexpectedAdmissionError", "Evicted", "NodeShutdown"):
            left = pod("left", "gpu-1", gpus=8)
            left["status"].update(phase="Failed", reason=reason)
            self.judge([node("gpu-1"), left])
            self.assertEqual((self.states["free"], self.report["totals"]["gpus_allocated"]), (8, 0), reason)

    def test_a_group_of_which_one_member_works(self):
        """The leader's page shows nothing, the worker's devices compute: the group is at work, or nobody knows, never idle."""
        labels = lambda i: {"leaderworkerset.sigs.k8s.io/name": "big", "leaderworkerset.sigs.k8s.io/group-index": "0", "leaderworkerset.sigs.k8s.io/worker-index": str(i)}
        lead = pod("big-0", "gpu-1", gpus=8, args=("--model", "deepseek-ai/DeepSeek-V3", "-tp", "8", "-pp", "2"), labels=labels(0), owner=("apps/v1", "StatefulSet", "big"))
        work = pod("big-0-1", "gpu-2", gpus=8, args=("--headless",), labels=labels(1), owner=("apps/v1", "StatefulSet", "big-0"))
        above = {"kind": "LeaderWorkerSet", "metadata": {"name": "big", "namespace": "ml", "creationTimestamp": fake.stamp(NOW - 20 * DAY)}, "spec": {"replicas": 1, "leaderWorkerTemplate": {"size": 2}}}
        sets = [{"kind": "StatefulSet", "metadata": {"name": n, "namespace": "ml", "uid": f"u-{n}", "creationTimestamp": fake.stamp(NOW - 20 * DAY), "ownerReferences": [{"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "big", "uid": "0", "controller": True}]}, "spec": {"replicas": 1}} for n in ("big", "big-0")]
        for busy, idle in ((0, 16), (1, 0)):
            pages = {("ml", "big-0", 8000, "/metrics"): page(0), **shown("gpu-1", {i: ("ml", "big-0", 0) for i in range(8)}), ("gpu-operator", "dcgm-gpu-2", 9400, "/metrics"): dcgm({i: ("ml", "big-0-1", busy) for i in range(8)}, first=8)}
            self.judge([node("gpu-1"), node("gpu-2"), exporter("gpu-1"), exporter("gpu-2"), lead, work, above, *sets], pages)
            self.assertEqual(self.states["idle"], idle)


# Those of the classes that these are built on run where they are written.
for made, base in ((Plans, manifests.Manifests), (Live, situations.Situations)):
    for name in [n for n in dir(base) if n.startswith("test_")]:
        setattr(made, name, None)
del made, base

if __name__ == "__main__":
    unittest.main(verbosity=1)

#!/usr/bin/env python3
"""Manifests as people have them, each with what is true of it said first, judged from outside.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/situations/test_manifests.py
"""
import json, os, pathlib, subprocess, unittest

BINARY = str(pathlib.Path(os.environ.get("GPUWASTE", "target/debug/gpuwaste")).resolve())
GPU = 55.04 / 8  # p5.48xlarge, us-east-1, on demand, as the catalogue has it
LARGE, SMALL = "meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen2.5-7B-Instruct"
VLLM, TGI, LLAMACPP, SGLANG = "vllm/vllm-openai:v0.11.0", "ghcr.io/huggingface/text-generation-inference:3.3.4", "ghcr.io/ggml-org/llama.cpp:server-cuda-b5000", "lmsysorg/sglang:v0.5.3-cu129"
H100 = {"node.kubernetes.io/instance-type": "p5.48xlarge"}


def spec(args=None, command=None, gpus=1, image=VLLM, env=None, select=None, resource="nvidia.com/gpu"):
    amounts = {resource: str(gpus), "cpu": "96", "memory": "900Gi"}
    container = {"name": "server", "image": image, "resources": {"limits": amounts, "requests": amounts}}
    container.update({k: v for k, v in (("args", args), ("command", command), ("env", env and [{"name": n, "value": v} for n, v in env.items()])) if v is not None})
    return {"nodeSelector": H100 if select is None else select, "containers": [container]}


def of(kind, name, more, version="apps/v1", owner=None, **rest):
    meta = {"name": name, "namespace": "ml", **({"ownerReferences": [{"kind": owner[0], "name": owner[1], "uid": "u", "apiVersion": "apps/v1", "controller": True}]} if owner else {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": more, **rest}


def deployment(name="web", replicas=1, **more):
    labels = {"app": name}
    return of("Deployment", name, {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec(**more)}})


def job(more, **rest):
    return of("Job", "batch", {"template": {"spec": {**spec(image="acme/train:1"), "restartPolicy": "Never"}}, **more}, version="batch/v1", **rest)


class Manifests(unittest.TestCase):
    def check(self, *objects):
        done = subprocess.run([BINARY, "check", "-", "--format", "json"], input="\n---\n".join(map(json.dumps, objects)), capture_output=True, text=True, timeout=60)
        self.assertIn(done.returncode, (0, 1, 3), done.stderr)
        self.report = json.loads(done.stdout)
        self.totals = self.report["totals"]
        return self.report

    def found(self, check, part=None):
        return [f for f in self.report["findings"] if f["check"] == check and f["part"] == part]

    def alone(self):
        [workload] = self.report["workloads"]
        return workload

    def no_dollars(self):
        self.assertFalse([f["title"] for f in self.report["findings"] if f["usd_per_hour"]])

    def tensor(self, expected, **more):
        self.check(deployment(**more))
        self.assertEqual(self.alone()["tensor_parallel"], expected, more)

    # --- the parallelism in odd spellings ---

    def test_flags_that_are_cut_short(self):
        """argparse takes any beginning that only one flag has: the parallelism is 4."""
        self.tensor(4, args=["--model", LARGE, "--tensor-parallel", "4"], gpus=4)
        self.no_dollars()
        self.tensor(4, args=["--model", LARGE, "--tensor-par=4", "--gpu-memory", "0.9"], gpus=4)
        self.tensor(8, command=["python3", "-m", "sglang.launch_server", "--model-path", LARGE, "--tensor-parallel", "8", "--mem-fraction", "0.8"], gpus=8, image=SGLANG)

    def test_arguments_behind_a_script(self):
        """The word behind the text of `sh -c` is its $0, and is split where it is not quoted."""
        self.tensor(4, command=["sh", "-c", "vllm serve $0"], args=[f"{LARGE} --tensor-parallel-size 4"], gpus=4)
        self.assertEqual(self.alone()["model"], LARGE)
        self.no_dollars()

    def test_a_number_that_is_none(self):
        """vLLM refuses "4.0": how many GPUs it would use nobody can say, least of all that it is one."""
        for value in ("4.0", "four", "4k", "0x4"):
            self.tensor(None, args=["--model", LARGE, "--tensor-parallel-size", value], gpus=8)
            self.no_dollars()
            self.assertTrue([g for g in self.report["gaps"] if "parallel" in json.dumps(g)], value)

    def test_one_part_of_the_data_parallel_ranks(self):
        """Each pod runs a part of the ranks: that a pod asks for fewer GPUs than all of them is no fault of it."""
        for more in (["--data-parallel-size-local", "4", "--data-parallel-address", "head"], ["-dpl", "4", "--data-parallel-start-rank", "4", "--headless"]):
            self.check(deployment(args=["--model", SMALL, "-dp", "8", *more], gpus=4))
            self.no_dollars()
        for more in (["--data-parallel-rank", "0"], ["--data-parallel-external-lb"]):
            self.check(deployment(args=["--model", SMALL, "-dp", "4", *more], gpus=1))
            self.no_dollars()
        # All ranks in one pod: what it lacks is told.
        self.check(deployment(args=["--model", SMALL, "-dp", "8", "--data-parallel-size-local", "8"], gpus=4))
        self.assertTrue(self.found("parallelism-mismatch", "too-few"))

    def test_engines_that_are_told_to_use_one_gpu(self):
        """TGI without shards, llama.cpp without a split: three of four, one of two are never touched."""
        self.check(deployment(args=["--model-id", SMALL, "--sharded", "false"], gpus=4, image=TGI))
        self.assertAlmostEqual(self.found("parallelism-mismatch")[0]["usd_per_hour"], 3 * GPU, places=4)
        self.check(deployment(args=["-hf", "unsloth/Qwen3-8B-GGUF:Q4_K_M", "-ngl", "99", "-sm", "none"], gpus=2, image=LLAMACPP))
        self.assertAlmostEqual(self.found("parallelism-mismatch")[0]["usd_per_hour"], GPU, places=4)
        self.check(deployment(args=["-hf", "unsloth/Qwen3-8B-GGUF:Q4_K_M", "-ngl", "99", "-sm", "row"], gpus=2, image=LLAMACPP))
        self.assertFalse(self.found("parallelism-mismatch"))

    # --- which model ---

    def test_a_configuration_that_is_overridden(self):
        """Four layers of eighty: what the model takes is not what its name says. A longer rope changes nothing of its weights."""
        self.check(deployment(args=["--model", LARGE, "--hf-overrides", '{"num_hidden_layers": 4}']))
        self.no_dollars()
        self.check(deployment(args=["--model", LARGE, "--hf-overrides", '{"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}', "--max-model-len", "8192"]))
        self.assertTrue(self.found("undersized-tier"))

    def test_a_wrapper_that_reads_variables(self):
        """No arguments, and the model in a variable: the wrapper may take the parallelism from one, too."""
        self.check(deployment(args=[], gpus=8, env={"MODEL_NAME": LARGE, "TP_SIZE": "8"}))
        self.no_dollars()
        self.assertTrue([g for g in self.report["gaps"] if "reads variables" in json.dumps(g)], self.report["gaps"])

    # --- advice that can be done ---

    def sized(self, asks=None, **select):
        made = deployment(args=["--model", SMALL, "--max-model-len", "4096", "--max-num-seqs", "8"], select=select or None)
        amounts = made["spec"]["template"]["spec"]["containers"][0]["resources"]
        amounts["limits"] = amounts["requests"] = {"nvidia.com/gpu": "1", "cpu": "6", "memory": "24Gi", **(asks or {})}
        self.check(made)
        return self.found("oversized-tier")

    def test_what_a_pod_asks_for_beside_its_gpu(self):
        """Network cards for RDMA, huge pages: no instance of a smaller card is known to have them."""
        self.assertTrue(self.sized())
        for name in ("rdma/ib", "vpc.amazonaws.com/efa", "hugepages-1Gi"):
            self.assertFalse(self.sized({name: "4Gi" if "huge" in name else "1"}), name)
            [lacks] = [n for c in self.report["checks"] if c["id"] == "oversized-tier" for n in c["not_assessed"]]
            self.assertIn(name, lacks["reason"])

    def test_old_cards_beside_arm(self):
        """Images for arm64 have no kernels for T4G: a server on GH200 is not sent there."""
        arm = {"kubernetes.io/arch": "arm64", "nvidia.com/gpu.product": "NVIDIA-GH200-480GB"}
        self.assertFalse([f["fix"]["placement"]["gpu"] for f in self.sized(**arm) if f["fix"]["placement"]["gpu"] == "T4G"])
        self.assertIn("GH200", self.alone()["gpu"])

    # --- what is counted ---

    def test_no_more_pods_than_a_job_has_to_complete(self):
        self.check(job({"parallelism": 4, "completions": 2}))
        self.assertEqual(self.totals["gpus"], 2)
        self.check(job({"parallelism": 2, "completions": 4}))
        self.assertEqual(self.totals["gpus"], 2)
        self.check(job({"parallelism": 4}))
        self.assertEqual(self.totals["gpus"], 4)

    def test_what_runs_now_and_then(self):
        """One run a night is no 24 hours a day: its GPUs are counted, and nobody says what they cost. A Job costs while it runs."""
        template = {"spec": {**spec(args=["--model", SMALL], gpus=8), "restartPolicy": "Never"}}
        cron = of("CronJob", "nightly", {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template}}}, version="batch/v1")
        queue = of("ScaledJob", "queue", {"jobTargetRef": {"template": template}, "minReplicaCount": 0, "maxReplicaCount": 9}, version="keda.sh/v1alpha1")
        for made in (cron, queue):
            self.check(made)
            self.assertEqual((self.totals["gpus"], self.totals["gpus_unpriced"], self.totals["spend_usd_per_hour"]), (8, 8, None), made["kind"])
            self.assertEqual([f["usd_per_hour"] for f in self.found("parallelism-mismatch")], [None], made["kind"])
            self.assertTrue([g for g in self.report["gaps"] if "now and then" in g["reason"]], self.report["gaps"])
        self.check(cron, deployment(args=["--model", SMALL]))
        self.assertAlmostEqual(self.totals["spend_usd_per_hour"], GPU, places=4)
        self.check(of("Job", "once", {"template": template}, version="batch/v1"))
        self.assertAlmostEqual(self.found("parallelism-mismatch")[0]["usd_per_hour"], 7 * GPU, places=4)

    def test_what_scales_to_zero(self):
        """Nobody says how many hours a day it runs: its GPUs are counted once, without a price. What keeps one costs all day."""
        knative = lambda **on: of("Service", "s", {"template": {"metadata": {"annotations": {f"autoscaling.knative.dev/{k.replace('_', '-')}": v for k, v in on.items()}}, "spec": spec(args=["--model", SMALL])}}, version="serving.knative.dev/v1")
        kserve = lambda notes=None, **more: {**of("InferenceService", "i", {"predictor": {**more, "nodeSelector": H100, "model": {"modelFormat": {"name": "huggingface"}, "args": ["--model_id=" + SMALL], "resources": {"limits": {"nvidia.com/gpu": "1"}}}}}, version="serving.kserve.io/v1beta1"), "metadata": {"name": "i", "namespace": "ml", "annotations": notes or {}}}
        keda = lambda **more: [deployment(args=["--model", SMALL]), of("ScaledObject", "h", {"scaleTargetRef": {"name": "web"}, **more}, version="keda.sh/v1alpha1")]
        kubeai = lambda **more: of("Model", "k", {"engine": "VLLM", "url": "hf://" + SMALL, "resourceProfile": "nvidia-gpu-h100:1", **more}, version="kubeai.org/v1")
        for made in ([knative()], [knative(min_scale="0")], [kserve(minReplicas=0)], [kserve({"autoscaling.knative.dev/min-scale": "0"})], keda(), keda(minReplicaCount=0), keda(minReplicaCount=2, idleReplicaCount=0), [kubeai()], [kubeai(minReplicas=0)]):
            self.check(*made)
            self.assertEqual((self.totals["gpus_unpriced"], self.totals["spend_usd_per_hour"]), (self.totals["gpus"], None), made)
            self.assertTrue([g for g in self.report["gaps"] if "while nobody asks" in g["reason"]], made)
        for made, gpus in (([knative(min_scale="2")], 2), ([kserve()], 1), ([kserve(minReplicas=3)], 3), (keda(minReplicaCount=1), 1), ([kubeai(minReplicas=1)], 1), ([kubeai(replicas=2)], 2)):
            self.check(*made)
            self.assertEqual((self.totals["gpus"], self.totals["gpus_unpriced"]), (gpus, 0), made)
            self.assertFalse([g for g in self.report["gaps"] if "while nobody asks" in g["reason"]], made)

    def test_roles_that_are_groups_of_pods(self):
        """RoleBasedGroup makes a LeaderWorkerSet of a role: its replica is two pods of eight GPUs. What is not read leaves no total of 0."""
        role = lambda **more: {"name": "prefill", "replicas": 2, "template": {"spec": spec(command=["python3", "-m", "sglang.launch_server", "--model-path", "deepseek-ai/DeepSeek-R1", "--tp", "16"], image=SGLANG, gpus=8)}, **more}
        for more, gpus in (({"leaderWorkerSet": {"size": 2}}, 32), ({"leaderWorkerPattern": {"size": 3}}, 48), ({}, 16)):
            self.check(of("RoleBasedGroup", "g", {"roles": [role(**more)]}, version="workloads.x-k8s.io/v1alpha1"))
            self.assertEqual(self.totals["gpus"], gpus, more)
        self.check(of("Workflow", "w", {"templates": [{"name": "train", "container": {"image": "acme/train:1", "resources": {"limits": {"nvidia.com/gpu": "8"}}}}]}, version="argoproj.io/v1alpha1"))
        self.assertTrue([g for g in self.report["gaps"] if "form that is not known" in g["reason"]])
        self.assertIsNone(self.totals["spend_usd_per_hour"])

    def test_an_image_for_other_cards(self):
        """A CUDA image where AMD's cards are asked for starts nowhere."""
        for image, resource, wrong in ((VLLM, "amd.com/gpu", 1), ("vllm/vllm-openai-rocm:v0.14.0", "amd.com/gpu", 0), ("lmsysorg/sglang:v0.5.3-rocm630-mi30x", "nvidia.com/gpu", 1), (VLLM, "nvidia.com/gpu", 0), ("acme/server:1", "amd.com/gpu", 0)):
            self.check(deployment(args=["--model", SMALL], image=image, resource=resource, select={}))
            self.assertEqual(len(self.found("spec-hygiene", "vendor")), wrong, (image, resource))

    def test_one_on_each_node(self):
        """A DaemonSet's pods are as many as its nodes: counted once, and said."""
        self.check(of("DaemonSet", "edge", {"template": {"spec": spec(args=["--model", SMALL])}}))
        self.assertEqual(self.totals["gpus"], 1)
        self.assertTrue([g for g in self.report["gaps"] if "each node" in g["reason"]], self.report["gaps"])

    def test_spot_is_selected_in_other_words(self):
        """GKE's label for how a node was provisioned, AWS' samples: the price is not that of a machine that stays."""
        def price(**select):
            self.check(deployment(args=["--model", SMALL, "--max-model-len", "4096"], select={k.replace("__", "/"): v for k, v in select.items()}))
            return self.totals["spend_usd_per_hour"]
        a3 = {"node.kubernetes.io/instance-type": "a3-highgpu-8g", "topology.kubernetes.io/region": "us-central1", "cloud.google.com/gke-nodepool": "p"}
        listed, spot = price(**a3), price(**a3, **{"cloud.google.com/gke-spot": "true"})
        self.assertLess(spot, 0.8 * listed)
        self.assertEqual(price(**a3, **{"cloud.google.com/gke-provisioning": "spot"}), spot)
        self.assertEqual(price(**H100, lifecycle="Ec2Spot"), price(**H100, **{"karpenter.sh/capacity-type": "spot"}))

    def test_what_has_ended_holds_nothing(self):
        """Objects read from a cluster tell it: a finished Job, a pod that succeeded or was evicted."""
        self.check(job({"parallelism": 1}, status={"conditions": [{"type": "Complete", "status": "True"}]}))
        self.assertEqual(self.totals["gpus"], 0)
        for phase, gpus in (("Succeeded", 0), ("Failed", 0), ("Running", 1)):
            self.check(of("Pod", "one", spec(args=["--model", SMALL]), version="v1", status={"phase": phase}))
            self.assertEqual(self.totals["gpus"], gpus, phase)

    def test_what_one_object_made_is_counted_once(self):
        """`kubectl get all -o yaml`: a Deployment, its ReplicaSet and its pod are one GPU. A pod whose owner is not there counts."""
        web = deployment(args=["--model", SMALL])
        between = of("ReplicaSet", "web-1", {"replicas": 1, "selector": {}, "template": web["spec"]["template"]}, owner=("Deployment", "web"))
        made = of("Pod", "web-1-x", spec(args=["--model", SMALL]), version="v1", owner=("ReplicaSet", "web-1"))
        self.check(web, between, made)
        self.assertEqual((self.totals["gpus"], len(self.report["workloads"])), (1, 1))
        self.check(made)
        self.assertEqual(self.totals["gpus"], 1)
        # A quota or a node makes no pods.
        self.check({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1", "namespace": "ml"}}, of("Pod", "one", spec(args=["--model", SMALL]), version="v1", owner=("Node", "gpu-1")))
        self.assertEqual(self.totals["gpus"], 1)

    def test_lists_as_the_api_answers_them(self):
        """A PodList's items do not say that they are pods."""
        pods = [{k: v for k, v in of("Pod", n, spec(args=["--model", SMALL])).items() if k not in ("kind", "apiVersion")} for n in ("a", "b")]
        self.check({"apiVersion": "v1", "kind": "PodList", "items": pods})
        self.assertEqual(self.totals["gpus"], 2)

    def test_a_template_with_parameters(self):
        """OpenShift's Template holds objects; parameters with a value are filled in, the others nobody knows."""
        template = lambda **value: {"apiVersion": "template.openshift.io/v1", "kind": "Template", "metadata": {"name": "t"}, "parameters": [{"name": "TP", **value}, {"name": "N", "value": "2"}],
                                    "objects": [deployment(args=["--model", LARGE, "--tensor-parallel-size", "${TP}"], gpus=8, replicas="${{N}}")]}
        self.check(template(value="8"))
        self.assertEqual((self.totals["gpus"], self.alone()["replicas"], self.alone()["tensor_parallel"]), (16, 2, 8))
        self.check(template())
        self.assertEqual((self.totals["gpus"], self.alone()["tensor_parallel"]), (16, None))
        self.no_dollars()

    def test_roles_of_one_server_in_a_list(self):
        """A kind that is not known, with a leader and a worker of four GPUs each: tensor 4 x pipeline 2 over both, and nothing is unused."""
        role = lambda name, args: {"name": name, "replicas": 1, "template": {"spec": spec(args=args, gpus=4)}}
        self.check(of("ModelGroup", "big", {"replicas": 2, "roles": [role("leader", ["--model", LARGE, "-tp", "4", "-pp", "2"]), role("worker", ["worker"])]}, version="acme.ai/v1"))
        self.no_dollars()
        self.assertEqual(self.totals["gpus"], 16)
        self.assertEqual((self.alone()["replicas"], self.alone()["gpus_per_replica"]), (2, 8))

    def test_a_virtual_machine_with_a_card(self):
        """KubeVirt gives cards by a device's name: not judged, and said."""
        self.check(of("VirtualMachine", "vm", {"template": {"spec": {"domain": {"devices": {"gpus": [{"name": "g", "deviceName": "nvidia.com/GH100_H100_SXM5_80GB"}]}}}}}, version="kubevirt.io/v1"))
        self.assertTrue([g for g in self.report["gaps"] if "VirtualMachine vm" in g["what"]], self.report["gaps"])

    def test_a_family_of_machines_is_no_card(self):
        """a2 is Google's family of A100 machines, and the name of a small card."""
        self.check(deployment(args=["--model", SMALL], select={"cloud.google.com/gke-accelerator": "nvidia-tesla-a100", "cloud.google.com/machine-family": "a2"}))
        self.assertIn("A100", self.alone()["gpu"])
        self.assertFalse(self.found("undersized-tier"))


if __name__ == "__main__":
    unittest.main(verbosity=1)

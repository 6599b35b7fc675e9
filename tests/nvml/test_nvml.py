#!/usr/bin/env python3
"""The stand-in library read by NVIDIA's own nvidia-ml-py and by gpuwaste: the same figures, so the struct layouts are NVIDIA's.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/nvml/test_nvml.py
"""
import hashlib, json, os, pathlib, subprocess, sys, tempfile, unittest, venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = pathlib.Path(os.environ.get("GPUWASTE", "target/debug/gpuwaste")).resolve()
PACKAGE = "nvidia-ml-py==13.580.82"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / f"gpuwaste-nvml-{hashlib.sha256(PACKAGE.encode()).hexdigest()[:12]}"

READER = """
import json, pynvml as n
n.nvmlInit()
out = []
def told(call, *a):
    try: return call(*a)
    except n.NVMLError as e: return None
for i in range(n.nvmlDeviceGetCount()):
    h = n.nvmlDeviceGetHandleByIndex(i)
    mig = told(n.nvmlDeviceGetMigMode, h)
    handles = [h]
    if mig and mig[0]:
        found = [told(n.nvmlDeviceGetMigDeviceHandleByIndex, h, s) for s in range(n.nvmlDeviceGetMaxMigDeviceCount(h))]
        handles = [f for f in found if f] or [h]
    for d in handles:
        used = told(n.nvmlDeviceGetUtilizationRates, d)
        memory = told(n.nvmlDeviceGetMemoryInfo, d)
        power = told(n.nvmlDeviceGetPowerUsage, d)
        energy = told(n.nvmlDeviceGetTotalEnergyConsumption, d)
        out.append({"uuid": told(n.nvmlDeviceGetUUID, h), "name": told(n.nvmlDeviceGetName, d), "util": used.gpu / 100 if used else None,
                    "total": memory.total if memory else None, "used": memory.used if memory else None,
                    "power": power / 1000 if power is not None else None, "energy": energy / 1000 if energy is not None else None,
                    "pids": len(told(n.nvmlDeviceGetComputeRunningProcesses, d) or [])})
print(json.dumps({"driver": n.nvmlSystemGetDriverVersion(), "devices": out}))
"""

SCENARIO = {"driver": "570.86.15", "devices": [
    {"name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-a", "gpu_percent": 37, "memory_total": 85520809984, "memory_used": 70123456789, "power_milliwatts": 412345, "energy_millijoules": 987654321, "pids": [1, 2]},
    {"name": "NVIDIA L4", "uuid": "GPU-b", "gpu_percent": 0, "memory_total": 24152899584, "memory_used": 3145728, "power_milliwatts": 16000, "pids": []},
    {"name": "NVIDIA A100-SXM4-80GB", "uuid": "GPU-c", "memory_total": 85899345920, "memory_used": 0, "power_milliwatts": 60000,
     "mig": [{"slot": 1, "name": "NVIDIA A100-SXM4-80GB MIG 3g.40gb", "uuid": "MIG-1", "memory_total": 42949672960, "memory_used": 1234567, "pids": [1]},
             {"slot": 4, "name": "NVIDIA A100-SXM4-80GB MIG 1g.10gb", "uuid": "MIG-2", "memory_total": 10737418240, "memory_used": 0, "pids": []}]},
]}


def python():
    """The interpreter of an environment with nvidia-ml-py, kept outside the clone."""
    if not (CACHE / "bin/python").exists():
        venv.create(CACHE, with_pip=True)
    binary = CACHE / "bin/python"
    if subprocess.run([binary, "-c", "import pynvml"], capture_output=True).returncode:
        subprocess.run([binary, "-m", "pip", "install", "-q", PACKAGE], check=True)
    return binary


class Nvml(unittest.TestCase):
    def test_both_readers_see_the_same(self):
        target = BINARY.parent.parent
        subprocess.run(["cargo", "build", "--quiet", "-p", "nvml-standin", "--target-dir", target], cwd=ROOT, check=True)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "libnvidia-ml.so.1").write_bytes((target / "debug/libnvidia_ml.so").read_bytes())
            (folder / "scenario.json").write_text(json.dumps(SCENARIO))
            env = {**os.environ, "LD_LIBRARY_PATH": str(folder), "NVML_STANDIN": str(folder / "scenario.json")}
            theirs = json.loads(subprocess.run([python(), "-c", READER], env=env, check=True, capture_output=True, text=True).stdout)
            snapshot = json.loads(subprocess.run([BINARY, "collect", "--local", "--no-scrape", "-q", "-o", "-"], env=env, check=True, capture_output=True, text=True).stdout)
        gpus = snapshot["clusters"][0]["gpus"]
        self.assertEqual(len(theirs["devices"]), 4)
        self.assertEqual(len(gpus), 4)
        self.assertIn(theirs["driver"], snapshot["sources"][0]["detail"])
        for one, other in zip(theirs["devices"], gpus):
            reading = other["readings"][0]
            self.assertEqual(one["uuid"], other["uuid"])
            self.assertIn(other["mig"]["profile"] if other.get("mig") else other["model"], one["name"])
            for theirs_key, ours_key in (("util", "gpu_util"), ("total", "memory_total"), ("used", "memory_used"), ("power", "power"), ("energy", "energy_joules")):
                self.assertEqual(one[theirs_key], reading.get(ours_key), f"{one['name']}: {ours_key}")
            self.assertEqual(one["pids"], len(other.get("holders", [])), one["name"])


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        print("SKIPPED: NVML is read on Linux only")
        sys.exit(0)
    unittest.main()

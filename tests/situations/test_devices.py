#!/usr/bin/env python3
"""What a week of devices' and servers' series tells, each with what is true said first: a real Prometheus beside a small API server.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/situations/test_devices.py
"""
import pathlib, shutil, sys, tempfile, time, unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "prometheus"), str(HERE)]
import store
import test_situations as situations
from test_situations import DAY, NOW, exporter, fake, node, pod, scan

STEP, END = 300, int(time.time()) // 300 * 300
TIMES = range(END - 7 * DAY + STEP, END + 1800, STEP)
SAMPLE = {"GPU_UTIL": 0, "POWER_USAGE": 72, "FB_USED": 500}


class Series:
    """(series, value of a time) as the store's loader takes them, those of one name together."""

    def __init__(self, rows):
        self.rows = sorted(rows, key=lambda r: r[0].split("{")[0])

    def series(self):
        for labels, of in self.rows:
            samples = [(t, of(t)) for t in TIMES]
            yield labels, [(t, v) for t, v in samples if v is not None]


def device(place, holder=None, until=None, **figures):
    """A card's series: numbers, or functions of the time. `until`: its exporter was read no longer."""
    own = 'namespace="gpu-operator",pod="dcgm-gpu-1",container="exporter"' + (f',exported_namespace="ml",exported_pod="{holder}",exported_container="server"' if holder else "")
    labels = f'gpu="{place}",UUID="GPU-{place:08x}-0000-0000-0000-000000000000",modelName="NVIDIA H100 80GB HBM3",job="dcgm",instance="10.8.0.1:9400",Hostname="gpu-1",{own}'
    seen = lambda value: lambda t: None if until and t > until else value(t) if callable(value) else value
    return [(f"DCGM_FI_{'PROF' if name.endswith('ACTIVE') else 'DEV'}_{name}{{{labels}}}", seen(value)) for name, value in {**SAMPLE, **figures}.items()]


class Devices(situations.Situations):
    def over_a_week(self, objects, rows):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="gpuwaste-devices-"))
        self.addCleanup(shutil.rmtree, folder)
        store.backfill(Series(rows), folder)
        with store.Prometheus(folder) as prometheus, fake.serve(fake.World([node("gpu-1"), exporter("gpu-1"), *objects])) as server, fake.config(server) as config:
            done, self.report = scan(config, "--prometheus", prometheus.url, "--observe", "0", "--no-scrape")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.states = {k[5:]: self.report["totals"][k] for k in self.report["totals"] if k.startswith("gpus_")}

    def of_job(self, held, gpus=8, **more):
        above = {"kind": "Job", "metadata": {"name": "train", "namespace": "ml", "creationTimestamp": fake.stamp(NOW - 20 * DAY)}, "spec": {}}
        works = pod("train-0", "gpu-1", gpus=gpus, image="acme/train:1", args=(), owner=("batch/v1", "Job", "train"), days=20)
        rows = [row for i in range(8) for row in device(i, "train-0" if i < gpus else None, **(held(i) if i < gpus else {}), **more)]
        self.over_a_week([works, above], rows)

    def test_a_farm_that_transcodes(self):
        """Video engines work all week and no kernel runs: measured idle it was. Without video it is."""
        calm = {"GR_ENGINE_ACTIVE": 0, "POWER_USAGE": 110}
        for video, idle in ((80, 0), (0, 8)):
            self.of_job(lambda i: {**calm, "ENC_UTIL": 0, "DEC_UTIL": video})
            self.assertEqual(self.states["idle"], idle, video)

    def test_idle_since_last_use(self):
        """Worked until three days ago: the present stretch counts. Ten hours of rest are none; nor is what nobody saw any more."""
        def until(hours, util=True):
            end = END - hours * 3600
            ends = lambda value, rest: lambda t: value if t < end else rest
            figures = {"GR_ENGINE_ACTIVE": ends(0.9, 0), "POWER_USAGE": ends(600, 72), "FB_USED": 70000}
            return lambda i: {**figures, "GPU_UTIL": ends(97, 0) if util else 97}
        self.of_job(until(72))
        self.assertEqual(self.states["idle"], 8)
        [idle] = self.found("dark-capacity", "idle")
        self.assertIn("3 d", idle["title"])
        self.of_job(until(10))
        self.assertEqual(self.states["idle"], 0)
        # A counter that sticks at 0 while the other shows work.
        self.of_job(until(72, util=False))
        self.assertEqual(self.states["idle"], 0)
        # The exporter was not scraped for the last thirty hours of it.
        self.of_job(until(40), until=END - 30 * 3600)
        self.assertEqual(self.states["idle"], 0)


# Those of the class that is built on run where they are written.
for name in [n for n in dir(situations.Situations) if n.startswith("test_")]:
    setattr(Devices, name, None)

if __name__ == "__main__":
    unittest.main(verbosity=1)

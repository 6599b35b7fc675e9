#!/usr/bin/env python3
"""Cards that are broken, lost or parked, as exporters and servers tell it: each with what is true of it said first.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/situations/test_health.py
"""
import unittest

import test_situations as situations
from test_situations import DAY, GPU, NODE, NOW, dcgm, deployment, exporter, fake, node, owned, page, pod, shown


def said(**of):
    """`NAME={place: value}`: rows that dcgm-exporter writes of a card's health."""
    return "".join(f'DCGM_FI_DEV_{name}{{gpu="{i}",UUID="GPU-{i}",modelName="NVIDIA H100 80GB HBM3"}} {v}\n' for name, places in of.items() for i, v in places.items())


class Health(situations.Situations):
    def with_page(self, text, *more, pages=None):
        self.judge([node("gpu-1"), exporter("gpu-1"), *more], {("gpu-operator", "dcgm-gpu-1", 9400, "/metrics"): text, **(pages or {})})

    def gaps(self, word):
        return [g for g in self.report["gaps"] if word in g["what"] + g["reason"]]

    def test_a_free_card_that_its_exporter_calls_broken(self):
        """A failed row remapping and XIDs that want a reset: to be repaired, not to be given away. What programs cause is none of it."""
        for rows, words in ((said(ROW_REMAP_FAILURE={3: 1}), "row remapping failed"), (said(XID_ERRORS={3: 79}), "79"), (said(XID_ERRORS={3: 64}), "64")):
            self.with_page(dcgm({}) + rows)
            self.assertEqual((self.states["free"], self.states["unhealthy"]), (7, 1), rows)
            [broken] = self.found("dark-capacity", "unhealthy")
            self.assertEqual((round(broken["usd_per_hour"], 4), broken["grade"], broken["confidence"]), (GPU, "reusable", "estimated"))
            self.assertIn(words, broken["fix"]["summary"])
            self.assertIn("GPU-3", broken["fix"]["summary"])
        for xid in (0, 13, 31, 43, 45, 9223372036854775794):
            self.with_page(dcgm({}) + said(XID_ERRORS={3: xid}, ROW_REMAP_FAILURE={3: 0}))
            self.assertEqual((self.states["free"], self.states["unhealthy"]), (8, 0), xid)
            self.assertNotIn("XID", str(self.report["findings"]), xid)

    def test_a_card_that_waits_for_a_reset(self):
        """It works until then, and is free: but whoever is given it should know."""
        self.with_page(dcgm({}) + said(ROW_REMAP_PENDING={5: 1}))
        self.assertEqual(self.states["free"], 8)
        [free] = self.found("dark-capacity", "unallocated")
        self.assertIn("GPU-5", free["fix"]["summary"])
        self.assertIn("waits for a reset", free["fix"]["summary"])
        self.with_page(dcgm({}) + said(XID_ERRORS={5: 94}))
        self.assertIn("94", self.found("dark-capacity", "unallocated")[0]["fix"]["summary"])

    def test_a_broken_card_that_somebody_holds(self):
        """A server at work works; the report says what is wrong with its card, and claims nothing for it."""
        web = owned("web", "gpu-1", gpus=1)
        self.with_page(dcgm({0: ("ml", "web-5d9c-aaaaa", 1)}) + said(XID_ERRORS={0: 95}), web, *deployment("web"), pages={("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(90000, running=1)})
        self.assertEqual((self.states["working"], self.states["unhealthy"], self.states["free"]), (1, 0, 7))
        self.assertTrue(self.gaps("95"), self.report["gaps"])
        # An exporter that names no pods: which card the server has is not told, and so not which of the free ones is broken.
        nameless = "".join(l.replace(',pod="web-5d9c-aaaaa",namespace="ml",container="server"', "") for l in dcgm({}).splitlines(True))
        self.with_page(nameless + said(XID_ERRORS={7: 79}), web, *deployment("web"), pages={("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(90000, running=1)})
        self.assertEqual(self.states["unhealthy"], 0)
        self.assertTrue(self.gaps("79"), self.report["gaps"])

    def test_an_exporter_that_shows_seven_of_eight(self):
        """The node hands out eight. The one that is not shown may be lost: never free, never idle, and said. With all eight, or none, nothing is."""
        self.with_page(dcgm({}, gpus=7))
        self.assertEqual((self.states["free"], self.states["unknown"]), (7, 1))
        self.assertTrue(self.gaps("shows 7"), self.report["gaps"])
        self.with_page(dcgm({}))
        self.assertEqual(self.states["free"], 8)
        self.assertFalse(self.gaps("shows"), self.report["gaps"])
        self.judge([node("gpu-1")])
        self.assertEqual(self.states["free"], 8)
        # Three are held and named: of the other five, four are shown.
        train = pod("train", "gpu-1", gpus=3, image="acme/train:1", args=())
        self.with_page(dcgm({i: ("ml", "train", 1) for i in range(3)}, gpus=7), train)
        self.assertEqual(self.states["free"], 4)
        # The job holds four, of which three are shown: the free ones are all there.
        self.with_page(dcgm({i: ("ml", "train", 1) for i in range(3)}, gpus=7), pod("train", "gpu-1", gpus=4, image="acme/train:1", args=()))
        self.assertEqual(self.states["free"], 4)
        # An idle server on all eight: the eighth may be the one that works.
        web = owned("web", "gpu-1", gpus=8)
        self.with_page(dcgm({i: ("ml", "web-5d9c-aaaaa", 0) for i in range(7)}, gpus=7), web, *deployment("web"), pages={("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(0)})
        self.assertFalse(self.found("dark-capacity", "idle"), self.report["findings"])

    def test_a_server_that_sleeps(self):
        """vLLM put to sleep: parked on purpose. Never measured, and nobody is handed a patch; awake it is idle as before."""
        web = lambda *more: [owned("web", "gpu-1", gpus=1, args=("--model", "Qwen/Qwen2.5-7B-Instruct", *more)), *deployment("web")]
        state = lambda **on: "".join(f'vllm:engine_sleep_state{{engine="0",model_name="served",sleep_state="{s}"}} {int(on.get(s, 0))}\n' for s in ("awake", "weights_offloaded", "discard_all"))
        def idle(more, *args):
            self.with_page(dcgm({0: ("ml", "web-5d9c-aaaaa", 0)}), *web(*args), pages={("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(0) + more})
            [found] = self.found("dark-capacity", "idle")
            return found
        for asleep in (state(weights_offloaded=1), state(discard_all=1), state()):
            found = idle(asleep)
            self.assertEqual(found["confidence"], "estimated")
            self.assertIn("sleep", found["title"])
            self.assertIsNone(found["fix"].get("patch"))
        for awake in (state(awake=1), ""):
            found = idle(awake)
            self.assertEqual(found["confidence"], "measured")
            self.assertNotIn("sleep", found["title"])
            self.assertIsNotNone(found["fix"].get("patch"))
        # It may be put to sleep, and its page does not say whether it was.
        self.assertEqual(idle("", "--enable-sleep-mode")["confidence"], "estimated")
        self.assertEqual(idle(state(awake=1), "--enable-sleep-mode")["confidence"], "measured")


# Those of the class that is built on run where they are written.
for name in [n for n in dir(situations.Situations) if n.startswith("test_")]:
    setattr(Health, name, None)

if __name__ == "__main__":
    unittest.main(verbosity=1)

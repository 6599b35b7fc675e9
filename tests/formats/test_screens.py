#!/usr/bin/env python3
"""What people see first, in four roles, on terminals of 80 × 24 and 120 × 40 and in a pipe: compared with tests/formats/screens/*.txt.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/formats/test_screens.py     (BLESS=1 writes the files anew)
"""
import fcntl, os, pathlib, pty, re, struct, subprocess, sys, tempfile, termios, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import setting
from setting import ROOT

SCREENS = pathlib.Path(__file__).resolve().parent / "screens"
SIZES = {"80x24": (24, 80), "120x40": (40, 120)}

MANIFEST = """apiVersion: apps/v1
kind: Deployment
metadata: {name: chat, namespace: ml}
spec:
  replicas: 2
  template:
    spec:
      nodeSelector: {node.kubernetes.io/instance-type: g6.12xlarge, topology.kubernetes.io/region: us-east-1}
      containers:
        - name: server
          image: vllm/vllm-openai:v0.11.0
          args: [--model=Qwen/Qwen2.5-14B-Instruct, --tensor-parallel-size=1, --max-model-len=8192]
          resources: {requests: {cpu: 6, memory: 24Gi}, limits: {nvidia.com/gpu: 1}}
"""

# Name, arguments, exit code: what each role types first.
WALKS = [
    ("platform-scan", ["scan", "--demo"], 0),
    ("platform-show", ["show", "1", "--demo"], 0),
    ("platform-ls", ["ls", "--demo"], 0),
    ("platform-tree", ["ls", "tree", "--demo"], 0),
    ("ml-show-risk", ["show", "llama-405b-trial", "--demo"], 0),
    ("ml-check", ["check", "chat.yaml"], 0),
    ("ml-explain", ["explain", "saving"], 0),
    ("finops-groups", ["scan", "--demo", "--top", "3", "--group-by", "namespace"], 0),
    ("ci-gate", ["scan", "--demo", "--top", "3", "--max-waste", "100"], 1),
    ("ci-nothing-matched", ["scan", "--demo", "--top", "3", "-n", "nosuch", "--max-waste", "100000"], 3),
]


def screen(folder, args, rows, columns):
    """All that a terminal of this size gets, stdout and stderr as they come, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "xterm", "SOURCE_DATE_EPOCH": "1764000000"}
    with subprocess.Popen([str(setting.BINARY), *args], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=folder, env=env) as child:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass
        code = child.wait(timeout=120)
    os.close(ours)
    return code, re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")


class Screens(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory(prefix="gpuwaste-screens-")
        cls.addClassCleanup(cls.dir.cleanup)
        cls.folder = pathlib.Path(cls.dir.name)
        (cls.folder / "chat.yaml").write_text(MANIFEST)

    def golden(self, name, text):
        path = SCREENS / f"{name}.txt"
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
        if os.environ.get("BLESS"):
            SCREENS.mkdir(exist_ok=True)
            path.write_text(text)
        self.assertTrue(path.exists(), f"{path.relative_to(ROOT)}: BLESS=1 writes it")
        self.assertEqual(text, path.read_text(), f"{path.relative_to(ROOT)}: BLESS=1 writes it anew")

    def test_each_walk_on_each_terminal(self):
        for name, args, code in WALKS:
            for size, (rows, columns) in SIZES.items():
                with self.subTest(name, size=size):
                    got, text = screen(self.folder, args, rows, columns)
                    self.assertEqual(got, code, text)
                    # Commands are never broken: they are copied.
                    long = [l for l in text.splitlines() if len(l) > columns and "kubectl" not in l and not l.startswith("gpuwaste: ")]
                    self.assertEqual(long, [])
                    self.golden(f"{name}-{size}", text)

    def test_the_first_screen_holds_the_whole_scan(self):
        for size, (rows, columns) in SIZES.items():
            _, text = screen(self.folder, ["scan", "--demo"], rows, columns)
            # With the command above and the prompt below.
            self.assertLessEqual(len(text.splitlines()), rows - 1, size)
            found = re.findall(r"(?m)^ *(\d+) +[\d,]+  ", text)
            self.assertEqual(found, [str(i + 1) for i in range(len(found))])
            self.assertTrue(5 <= len(found) <= 10, size)
            for word in ("a month stops if", "Spend", "Coverage", "Not assessed", "Not read", "Hints", "measured", "→"):
                self.assertIn(word, text, size)

    def test_a_pipe_gets_the_same_in_120_columns(self):
        done = setting.gpuwaste("scan", "--demo", "-q", cwd=self.folder, env={"COLUMNS": ""})
        self.golden("platform-scan-pipe", done.stdout)
        self.assertNotIn("\x1b", done.stdout)


if __name__ == "__main__":
    unittest.main()

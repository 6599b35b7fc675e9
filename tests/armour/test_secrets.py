#!/usr/bin/env python3
"""Canaries: a secret wherever one may stand reaches no format, no error, no gap, no snapshot, no panic.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_secrets.py
"""
import json, pathlib, sys, tempfile, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fake
from world import deployment, folder, gpuwaste, node, owned, page, pod

CANARY = "CANARYsecret9CANARYsecret9CANARY"
FORMATS = ("table", "json", "csv", "markdown", "html", "junit", "sarif", "prometheus")
URLS = [
    f"https://user:{CANARY}@models.example/org/model", f"https://models.example/m?sig={CANARY}", f"https://b.s3.example/m?X-Amz-Signature={CANARY}&x=1", f"hf://{CANARY}@org/model",
    f"https://user:a,{CANARY}@models.example/m", f"https://user:a/{CANARY}@models.example/m", f"https://models.example/{CANARY}/m", f"https://models.example/hf_{CANARY}/m", f"s3://key:{CANARY}@bucket/m",
]


class Secrets(unittest.TestCase):
    def hidden(self, *texts):
        for text in texts:
            self.assertNotIn("CANARY", text)

    def test_urls_of_models(self):
        for url in URLS:
            fleet = [node("gpu-1"), owned("web", "gpu-1", gpus=2, args=("--model", url, "--served-model-name", url)), *deployment("web"), pod("bare", "gpu-1", gpus=1, image=f"vllm/vllm-openai:v0.11.0", args=(f"--model={url}",))]
            served = page(10).replace('model_name="served"', f'model_name="{url}"')
            pages = {("ml", "web-5d9c-aaaaa", 8000, "/metrics"): served, ("ml", "bare", 8000, "/v1/models"): json.dumps({"data": [{"id": url, "root": url, "max_model_len": 4096}]})}
            with self.subTest(url), fake.serve(fake.World(fleet, pages=pages)) as server, fake.config(server) as config, tempfile.TemporaryDirectory() as name:
                args = ("--prometheus", "none", "--observe", "0")
                snapshot = pathlib.Path(name) / "s.json"
                done = gpuwaste("collect", *args, "-o", snapshot, config=config)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.hidden(done.stdout, done.stderr, snapshot.read_text())
                for form in FORMATS:
                    done = gpuwaste("scan", "--snapshot", snapshot, "--format", form, "-v")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.hidden(done.stdout, done.stderr)
                done = gpuwaste("doctor", *args, config=config)
                self.hidden(done.stdout, done.stderr)

    def test_manifests(self):
        for url in URLS:
            text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec:\n  containers:\n  - name: c\n    image: vllm/vllm-openai:v0.11.0\n    args: [--model, '{url}']\n    resources: {{limits: {{nvidia.com/gpu: 1}}}}\n"
            with self.subTest(url), folder({"p.yaml": text}) as place:
                for form in ("table", "json", "sarif"):
                    done = gpuwaste("check", place / "p.yaml", "--format", form, "-v")
                    self.hidden(done.stdout, done.stderr)

    def test_kubeconfigs(self):
        user = f"users:\n- name: u\n  user:\n    token: {CANARY}\n"
        rest = "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: k\n  cluster: {server: 'http://127.0.0.1:1'}\ncontexts:\n- name: c\n  context: {cluster: k, user: u}\n"
        files = {
            "mistake": user + "    bad: [\n" + rest, "tabs": rest + f"users:\n- name: u\n  user:\n\ttoken: {CANARY}\n", "a word": CANARY, "wrong type": rest + f"users: {CANARY}\n", "no map": rest + f"users:\n- name: u\n  user: {CANARY}\n",
            "a line break": rest + f'users:\n- name: u\n  user: {{token: "{CANARY}\\n{CANARY}"}}\n', "a last line break": rest + f'users:\n- name: u\n  user: {{token: "{CANARY}\\n"}}\n',
            "plugin": rest + f"users:\n- name: u\n  user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: false, args: [--token, {CANARY}], interactiveMode: Never}}}}\n",
            "no plugin": rest + f"users:\n- name: u\n  user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: no-such-thing, args: [--token, {CANARY}], interactiveMode: Never}}}}\n",
            "proxy": rest.replace("server: 'http://127.0.0.1:1'", f"server: 'http://127.0.0.1:1', proxy-url: 'ht tp://u:{CANARY}@p:1'") + user,
            "server": rest.replace("http://127.0.0.1:1", f"http://u:{CANARY}@127.0.0.1:1 x") + user,
            "data": rest + f"users:\n- name: u\n  user: {{client-certificate-data: '{CANARY}!', client-key-data: '{CANARY}!'}}\n",
        }
        for what, text in files.items():
            with self.subTest(what), folder({"config": text}) as place:
                for more in ((), ("--all-contexts",)):
                    done = gpuwaste("scan", "--timeout", "2s", *more, config=place / "config")
                    self.hidden(done.stdout, done.stderr)
                    self.assertNotIn("panicked", done.stderr)
                    self.assertEqual(done.returncode, 2, done.stderr)

    def test_stores(self):
        with fake.serve(fake.World([node("gpu-1"), owned("web", "gpu-1"), *deployment("web")])) as server, fake.config(server) as config:
            for store in (f"user:{CANARY}@127.0.0.1:1", f"http://user:{CANARY}@127.0.0.1:1", f"http://127.0.0.1:1/?token={CANARY}", f"http://127.0.0.1:1/{CANARY}/x", f"http://u:{CANARY}@127.0.0.1:1:1"):
                with self.subTest(store):
                    for form in ("table", "json"):
                        done = gpuwaste("scan", "--no-scrape", "--prometheus", store, "--timeout", "2s", "--format", form, "-v", config=config)
                        self.hidden(done.stdout, done.stderr)
            for header in (f"{CANARY} x: Authorization", f"Bearer {CANARY}", f"X: {CANARY}\x01"):
                with self.subTest(header):
                    done = gpuwaste("scan", "--no-scrape", "--prometheus", "http://127.0.0.1:1", "--prometheus-header", header, "--timeout", "2s", config=config)
                    self.hidden(done.stdout, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=1)

"""A real Prometheus on backfilled history, in a network namespace of its own or on loopback."""
import json, pathlib, shutil, subprocess, sys, tempfile, time, urllib.parse, urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "testbed"))
import testbed


def available():
    return shutil.which("prometheus") is not None and shutil.which("promtool") is not None


def backfill(world, folder, piece=6_000_000):
    """Blocks from the world's text, a piece of it at a time: all of it would be gigabytes."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text, total, series = folder / "history.om", 0, world.series()
    more = True
    while more:
        lines, more = 0, False
        try:
            with open(text, "w", buffering=1 << 20) as out:
                for labels, samples in series:
                    out.writelines(f"{labels} {v} {t}\n" for t, v in samples)
                    lines += len(samples)
                    if lines >= piece:
                        more = True
                        break
                out.write("# EOF\n")
            if lines:
                subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", "-q", "--max-block-duration=384h", str(text), str(folder / "tsdb")], check=True, capture_output=True)
        finally:
            text.unlink(missing_ok=True)
        total += lines
    return total


class Prometheus:
    """Context manager; `space` is a network namespace that has the address."""

    def __init__(self, folder, address="127.0.0.1", space=None):
        self.folder, self.address, self.space = pathlib.Path(folder), address, space
        self.port = testbed.free_port() if space is None else 9090
        self.url = f"http://{address}:{self.port}"

    def __enter__(self):
        (self.folder / "prometheus.yml").write_text("global: {}\n")
        prefix = ["ip", "netns", "exec", self.space] if self.space else []
        self.log = open(self.folder / "prometheus.log", "wb")
        self.child = subprocess.Popen([*prefix, "prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/tsdb", "--storage.tsdb.retention.time=60d",
                                       f"--web.listen-address={self.address}:{self.port}"], stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url + "/-/ready", timeout=2).close()
                return self
            except OSError:
                if self.child.poll() is not None:
                    break
                time.sleep(0.1)
        self.__exit__()
        raise RuntimeError("prometheus did not start: " + (self.folder / "prometheus.log").read_text()[-1500:])

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        self.log.close()

    def query(self, text, at):
        with urllib.request.urlopen(f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": text, "time": at}), timeout=300) as answer:
            return json.load(answer)["data"]["result"]

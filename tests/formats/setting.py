"""What the tests of the formats share: the binary, Python packages in a cached environment, and Chromium.

Where a part is missing the test is skipped, and says so; with CI set it fails instead.
"""
import hashlib, os, pathlib, shutil, subprocess, sys, unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("GPUWASTE", ROOT / "target/debug/gpuwaste")).resolve()
PACKAGES = ["check-jsonschema==0.39.0", "jsonschema==4.23.0", "lxml==5.3.0", "markdown-it-py==3.0.0", "pre-commit==4.7.0", "PyYAML==6.0.4",
            "websockets==14.1"]
ACTIONLINT = "v1.7.12"
AXE = "4.10.3"


def cached(name, key):
    """A folder outside the clone that a run leaves for the next one."""
    key = hashlib.sha256(key.encode()).hexdigest()[:12]
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / f"gpuwaste-{name}-{key}"


def environment():
    return cached("formats", "\n".join([sys.version, *PACKAGES]))


def packages():
    """Makes the packages importable; returns why it could not."""
    cache = environment()
    if not (cache / "done").exists():
        done = subprocess.run([sys.executable, "-m", "venv", str(cache)], capture_output=True, text=True)
        if done.returncode == 0:
            done = subprocess.run([cache / "bin/pip", "install", "-q", "--disable-pip-version-check", *PACKAGES], capture_output=True, text=True)
        if done.returncode != 0:
            return "the test's Python packages could not be installed: " + (done.stderr or done.stdout).strip()[-300:]
        (cache / "done").touch()
    sys.path[:0] = [str(p) for p in cache.glob("lib/python*/site-packages")]
    return None


def actionlint():
    """The linter of GitHub's workflows, built from its Go module, and why it could not be."""
    cache = cached("actionlint", ACTIONLINT)
    if not (cache / "actionlint").exists():
        if not shutil.which("go"):
            return None, "Go is not installed"
        done = subprocess.run(["go", "install", f"github.com/rhysd/actionlint/cmd/actionlint@{ACTIONLINT}"], capture_output=True, text=True, env={**os.environ, "GOBIN": str(cache), "GOFLAGS": ""})
        if done.returncode != 0:
            return None, "actionlint could not be built: " + done.stderr.strip()[-300:]
    return cache / "actionlint", None


def axe():
    """The script of axe-core, which finds what accessibility rules (WCAG) a page breaks, and why it could not be had."""
    cache = cached("axe", AXE)
    script = cache / "node_modules/axe-core/axe.min.js"
    if not script.exists():
        if not shutil.which("npm"):
            return None, "npm is not installed"
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", str(cache), f"axe-core@{AXE}"], capture_output=True, text=True)
        if done.returncode != 0 or not script.exists():
            return None, "axe-core could not be installed: " + (done.stderr or done.stdout).strip()[-300:]
    return script.read_text(), None


def need(what, why):
    """Skips, or fails in CI."""
    if why and os.environ.get("CI"):
        raise AssertionError(f"{what} is needed in CI: {why}")
    if why:
        raise unittest.SkipTest(f"{what}: {why}")


def chromium():
    return next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)


def gpuwaste(*args, cwd=None, ok=(0,), env=None):
    done = subprocess.run([str(BINARY), *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=cwd, timeout=300, env={**os.environ, **(env or {})})
    if done.returncode not in ok:
        raise AssertionError(f"gpuwaste {args}: exit {done.returncode}\n{done.stderr}")
    return done


def hostile(snapshot):
    """A snapshot in which every name tries to break out of whatever holds it."""
    evil = '=cmd|\' /C calc\'!A0"><script>alert(1)</script><img src=x onerror=alert(2)> ]]> </script> --> `x` | *b* [l](javascript:alert(3)) @team \u202e \x1b[31m'
    for cluster in snapshot["clusters"]:
        cluster["name"] = evil
        for node in cluster["nodes"]:
            for key in ("karpenter.sh/nodepool", "cloud.google.com/gke-nodepool", "kubernetes.azure.com/agentpool", "agentpool"):
                if key in node.get("labels", {}):
                    node["labels"][key] = evil
        for pod in cluster["pods"]:
            for container in pod.get("containers", []):
                if (container.get("server") or {}).get("model"):
                    container["server"]["model"] = evil
    return snapshot

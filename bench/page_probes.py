"""What is asked of a page in the browser, and read from the browser itself. One thread."""

import time
from itertools import pairwise
from typing import Any, Final

from playwright.sync_api import Browser, CDPSession, Page

# Each frame in which the operator's dots were painted, and the script of its callbacks; when the
# list, the dots and the map were first there, since the navigation began.
WATCH_FRAMES: Final = """
globalThis.bench = {frames: [], scripts: [], first: {}};
{
  let [frame, script, isPainted] = [0, 0, false];
  const painted = (canvas) => {
    if (canvas.className !== "dots") return;
    isPainted = true;
    bench.first.dots ??= performance.now();
  };
  for (const name of ["putImageData", "clearRect"]) {
    const call = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...given) {
      painted(this.canvas);
      return call.apply(this, given);
    };
  }
  const request = requestAnimationFrame.bind(globalThis);
  globalThis.requestAnimationFrame = (callback) => request((at) => {
    if (at !== frame) [frame, script, isPainted] = [at, 0, false];
    const begin = performance.now();
    const before = isPainted;
    callback(at);
    script += performance.now() - begin;
    if (isPainted && !before) {
      bench.frames.push(at);
      bench.scripts.push(script);
    }
  });
  const look = () => {
    const text = (selector) => document.querySelector(selector)?.textContent ?? "";
    if (text("#count").startsWith("2000")) bench.first.list ??= performance.now();
    if (text("#position") !== "") bench.first.position ??= performance.now();
    if (document.querySelector("#map[data-drawn]")) bench.first.map ??= performance.now();
  };
  new MutationObserver(look).observe(document, {attributes: true, childList: true,
    characterData: true, subtree: true});
}
"""
# What this browser can do: the same number of dots, drawn as usual at each frame it offers.
SPRITES: Final = """
([width, height, count, isDrawn]) => {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, {width, height, className: "dots"});
  Object.assign(canvas.style, {position: "absolute", right: 0, top: 0});
  document.body.append(canvas);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const sprite = document.createElement("canvas");
  sprite.width = sprite.height = 16;
  const one = sprite.getContext("2d");
  one.arc(8, 8, 6, 0, 7);
  one.fill();
  const dots = Array.from({length: isDrawn ? count : 0}, () =>
    [Math.random() * width, Math.random() * height, Math.random() * 7]);
  const step = (at) => {
    requestAnimationFrame(step);
    context.clearRect(0, 0, width, height);
    for (const [x, y, turn] of dots) {
      const angle = turn + at / 1000;
      context.drawImage(sprite, x + 20 * Math.cos(angle), y + 20 * Math.sin(angle));
    }
  };
  requestAnimationFrame(step);
}
"""


def processes_cpu_s(browser: CDPSession) -> float:
    """Of all of Chromium's processes so far."""
    found = browser.send("SystemInfo.getProcessInfo")["processInfo"]
    return float(sum(each["cpuTime"] for each in found))


class Frames:
    """Those of a page during some seconds."""

    def __init__(self, page: Page, browser: Browser, seconds: float) -> None:
        session = browser.new_browser_cdp_session()
        page.evaluate("bench.frames.length = bench.scripts.length = 0")
        began, cpu = time.monotonic(), processes_cpu_s(session)
        page.wait_for_timeout(seconds * 1000)
        found: dict[str, Any] = page.evaluate("bench")
        elapsed = time.monotonic() - began
        self.cores = (processes_cpu_s(session) - cpu) / elapsed
        self.rate = len(found["frames"]) / elapsed
        frames = found["frames"]
        self.gaps = sorted(b - a for a, b in pairwise(frames)) or [0.0]
        self.scripts = sorted(found["scripts"]) or [0.0]
        session.detach()

    def row(self) -> list[str]:
        """Frames a second by the median gap, gaps, script, cores."""
        gap, late = at(self.gaps, 0.5), at(self.gaps, 0.95)
        script = f"{at(self.scripts, 0.5):.1f} {at(self.scripts, 0.95):.1f}"
        rate = 1000 / gap if gap else 0.0
        return [f"{rate:.1f}", f"{self.rate:.1f}", f"{gap:.1f} {late:.1f}", script,
                f"{self.cores:.2f}"]  # fmt: skip


def at(ranked: list[float], share: float) -> float:
    """Nearest rank."""
    return ranked[int(share * (len(ranked) - 1))]


def heap_mb(page: Page) -> float:
    """What the page's script holds after a collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    used = float(session.send("Runtime.getHeapUsage")["usedSize"])
    session.detach()
    return used / 1e6

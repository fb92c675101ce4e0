// A playback shows what the same playout shows live. tests/test_motion.py runs it.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Fix } from "service-tracking-client";
import { distance } from "../src/motion/path.ts";
import { Playout, type Shown } from "../src/motion/playout.ts";
import { Playback } from "../src/ops/playback.ts";
import { fixOf } from "./simulation.ts";

const START = Date.UTC(2026, 1, 6, 10);
const FRAME_MS = 32;
const DRIVE = driven(120);

/** Eastwards at 10 m/s, then northwards, a point a second; nothing from second 60 up to 90. */
function driven(seconds: number): Fix[] {
  const points = [];
  for (let second = 0; second <= seconds; second += 1) {
    if (second > 60 && second < 90) continue;
    const [east, north] = second < 40 ? [second * 10, 0] : [400, (second - 40) * 10];
    const place = { longitude: 106.8 + east / 110_541, latitude: -6.2 + north / 111_195 };
    points.push(fixOf(second + 1, START + second * 1000, place, null));
  }
  return points;
}

function loaded(points: readonly Fix[] = DRIVE): Playback {
  const playback = new Playback(new Playout());
  playback.load(points);
  return playback;
}

/** All frames from the beginning to the end at one pace. */
function played(playback: Playback, pace: number): Shown[] {
  playback.seek(playback.begin);
  const shown = [];
  while (!playback.isOver) shown.push(playback.advance(playback.now + FRAME_MS * pace)!);
  return shown;
}

test("what was loaded is shown at its end", () => {
  const playback = new Playback(new Playout());
  const shown = playback.load([...DRIVE].reverse())!;
  assert.ok(distance(shown, DRIVE.at(-1)!) < 0.5);
  assert.equal(shown.aheadOfMarker, null);
  assert.ok(playback.isOver);
});

test("of two points that are far apart the second is reached, by seeking and by playing", () => {
  const far = [0, 29, 58].map((second, index) => {
    const place = { longitude: 106.8 + second * 1e-4, latitude: -6.2 };
    return fixOf(index + 1, START + second * 1000, place, null);
  });
  const playback = new Playback(new Playout());
  assert.equal(playback.load(far)!.headAt, far[2]!.at);
  assert.equal(played(playback, 30).at(-1)!.headAt, far[2]!.at);
});

test("nothing to play is no fault", () => {
  const playback = new Playback(new Playout());
  assert.equal(playback.load([]), null);
  assert.equal(playback.seek(5), null);
  assert.ok(playback.isOver);
});

for (const pace of [1, 10, 30, 120]) {
  test(`at ${pace} × it never goes back, is behind the newest point, and ends at the last`, () => {
    const shown = played(loaded(), pace);
    const heads = shown.map(({ headAt }) => headAt);
    assert.deepEqual(heads, [...heads].sort((a, b) => a - b));
    assert.ok(distance(shown.at(-1)!, DRIVE.at(-1)!) < 0.5);
    assert.ok(shown.some(({ aheadOfMarker }) => aheadOfMarker !== null), "a ring");
  });

  test(`at ${pace} × it fades at the gap, and nowhere else`, () => {
    const jumps = played(loaded(), pace).filter(({ jumped }) => jumped);
    assert.equal(jumps.length, 1);
  });
}

test("it is what the playout shows live", () => {
  const live = new Playout();
  const playback = loaded();
  playback.seek(playback.begin);
  live.add({ ...DRIVE[0]!, arrivedAt: DRIVE[0]!.at }, DRIVE[0]!.at);
  let next = 1;
  for (let now = START; now < START + 55_000; now += 100) {
    while (DRIVE[next]!.at <= now) {
      live.add({ ...DRIVE[next]!, arrivedAt: DRIVE[next]!.at }, DRIVE[next]!.at);
      next += 1;
    }
    const [one, other] = [live.at(now)!, playback.advance(now)!];
    assert.ok(distance(one, other) < 0.5, `${now - START}: ${distance(one, other)} m`);
  }
});

test("seeking is where playing would have come to, forwards and backwards", () => {
  const through = loaded();
  const sought = loaded();
  for (const second of [35, 50, 10, 110]) {
    through.seek(through.begin);
    const [one, other] = [through.advance(START + second * 1000)!, sought.seek(START + second * 1000)!];
    assert.ok(distance(one, other) < 3, `${second}: ${distance(one, other)} m`);
    assert.ok(Math.abs(one.headingDegrees! - other.headingDegrees!) < 1);
    assert.equal(other.jumped, false);
  }
});

test("in a gap the marker stands where it was last heard of", () => {
  const shown = loaded().seek(START + 75_000)!;
  assert.ok(distance(shown, DRIVE.find(({ at }) => at === START + 60_000)!) < 0.5);
});

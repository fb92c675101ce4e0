// The marker's motion on drives through dev/streets.py's cities, and alone. tests/test_motion.py runs it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Fix } from "service-tracking-client";
import { distance, type Place } from "../src/motion/path.ts";
import { Playout, type Shown } from "../src/motion/playout.ts";
import { deliveriesOf, fixOf, play, summary, type Conditions, type Drive } from "./simulation.ts";

const DRIVES = JSON.parse(readFileSync(process.env["DRIVES"]!, "utf8")) as Drive[];
const USUAL = { intervalMs: 1000, noiseM: 2, outages: 0.03, late: 0, clockMs: 0 };
const FRAME_MS = 1000 / 30;
const START = Date.UTC(2026, 1, 6, 10);
const NETWORK_MS = 300;

/** So many metres east of a spot in Jakarta. */
function east(metres: number, north = 0): Place {
  return { longitude: 106.8 + metres / 110_541, latitude: -6.2 + north / 111_195 };
}

/** One that came live, a usual time after it was recorded `at` milliseconds after the start. */
function live(seq: number, at: number, place: Place): Fix {
  return fixOf(seq, START + at, place, at + NETWORK_MS);
}

/** The frames from one moment up to another. */
function frames(playout: Playout, from: number, until: number): Shown[] {
  const shown = [];
  for (let now = from; now <= until; now += FRAME_MS) shown.push(playout.at(now)!);
  return shown;
}

/** Eastwards at 10 m/s, a fix a second, up to and with this second. */
function driven(seconds: number): Playout {
  const playout = new Playout();
  for (let second = 0; second <= seconds; second += 1) {
    const fix = live(second + 1, second * 1000, east(second * 10));
    playout.add(fix, fix.arrivedAt!);
    frames(playout, fix.arrivedAt!, fix.arrivedAt! + 990);
  }
  return playout;
}

function drivesAre(name: string, conditions: Conditions, bounds: Record<string, number>): void {
  test(`drives ${name}`, (context) => {
    const figures = summary(
      DRIVES.map((drive, seed) =>
        play(drive, deliveriesOf(drive, conditions, seed), conditions.clockMs),
      ),
    );
    const words = Object.entries(figures).map(([key, value]) => `${key} ${value.toFixed(2)}`);
    context.diagnostic(`${name}: ${words.join(", ")}`);
    for (const [key, bound] of Object.entries({ pastTheLast: 0, backMs: 0, jumps: 0, ...bounds }))
      assert.ok(figures[key]! <= bound, `${key}: ${figures[key]} > ${bound}`);
    assert.ok(figures["turned"]! <= 360.01);
  });
}

drivesAre("every 1 s", USUAL, { offTheWay: 8.5, lagP50: 3.5, lagMax: 10, still: 0.12 });
drivesAre("every 5 s", { ...USUAL, intervalMs: 5000 },
  { offTheWay: 8.5, lagP50: 6.5, lagMax: 14, still: 0.08 }); // prettier-ignore
drivesAre("every 5 s, with a good receiver", { ...USUAL, intervalMs: 5000, noiseM: 0 },
  { offTheWay: 6, backM: 0.1, fastest: 13 * 1.36 }); // prettier-ignore
drivesAre("every 1 s, some late, the phone's clock an hour slow",
  { ...USUAL, noiseM: 0, late: 0.02, clockMs: -3_600_000 },
  { offTheWay: 8.5, lagP50: 4, lagMax: 12, backM: 0.1 }); // prettier-ignore

test("nothing is shown before the first fix, and a lone one stands", () => {
  const playout = new Playout();
  assert.equal(playout.at(0), null);
  const fix = live(1, 0, east(0));
  playout.add(fix, NETWORK_MS);
  const shown = playout.at(5000)!;
  assert.equal(distance(shown, fix), 0);
  assert.deepEqual(
    [shown.headingDegrees, shown.moving, shown.aheadOfMarker, shown.headAt, shown.jumped],
    [null, false, null, fix.at, false],
  );
});

test("it is behind the newest fix, which the ring shows, and stops there", () => {
  const playout = driven(20);
  const now = 21_300;
  const shown = playout.at(now)!;
  assert.equal(shown.aheadOfMarker?.seq, 21);
  assert.ok(shown.moving && shown.headAt < START + 20_000);
  const last = frames(playout, now, now + 10_000).at(-1)!;
  assert.equal(distance(last, east(200)), 0);
  assert.deepEqual([last.moving, last.aheadOfMarker], [false, null]);
});

test("a recorded time a year ahead changes nothing", () => {
  const [one, other] = [new Playout(), new Playout()];
  const year = 365 * 86_400_000;
  for (let second = 0; second < 10; second += 1) {
    const fix = live(second + 1, second * 1000, east(second * 10));
    one.add(fix, fix.arrivedAt!);
    other.add({ ...fix, at: fix.at + year }, fix.arrivedAt!);
    for (const [a, b] of [[one.at(fix.arrivedAt! + 500)!, other.at(fix.arrivedAt! + 500)!]] as const)
      assert.ok(distance(a, b) < 0.01);
  }
});

test("a late fix ahead of the marker bends its way, without a leap and not back", () => {
  const playout = driven(20);
  const next = live(30, 26_000, east(260));
  playout.add(next, next.arrivedAt!); // 22 to 25 are still missing
  const before = frames(playout, next.arrivedAt!, next.arrivedAt! + 1500).at(-1)!;
  playout.addLate([23, 22, 25, 24].map((second) => fixOf(second, START + second * 1000, east(second * 10, 8), null)));
  const now = next.arrivedAt! + 1500;
  const shown = frames(playout, now, now + 6000);
  assert.ok(distance(before, shown[0]!) < 1);
  assert.ok(shown.some((each) => distance(each, east(240, 8)) < 1), "not on the new way");
  let last = before;
  for (const each of shown) {
    assert.ok(each.headAt >= last.headAt && !each.jumped);
    assert.ok(each.longitude >= last.longitude - 1e-9);
    assert.ok(distance(each, last) < 1.5);
    last = each;
  }
});

test("late fixes that show it to have been slower do not move it back", () => {
  const playout = driven(20);
  const next = live(30, 26_000, east(260));
  playout.add(next, next.arrivedAt!);
  let last = frames(playout, next.arrivedAt!, next.arrivedAt! + 1500).at(-1)!;
  assert.ok(distance(last, east(200)) > 15);
  playout.addLate([21, 22, 23, 24, 25].map((second) =>
    fixOf(second + 1, START + second * 1000, east(200 + second - 20), null))); // prettier-ignore
  for (const shown of frames(playout, next.arrivedAt! + 1500, next.arrivedAt! + 6000)) {
    assert.ok(shown.longitude >= last.longitude - 1e-9 && !shown.jumped);
    assert.ok(distance(shown, last) < 3.5);
    last = shown;
  }
});

test("a late fix behind the marker is none of its business", () => {
  const [one, other] = [driven(20), driven(20)];
  other.addLate([fixOf(30, START + 3500, east(35, 40), null), live(3, 2000, east(20))]);
  assert.deepEqual(other.at(21_400), one.at(21_400));
});

test("missed fixes that a backfill brings after the newest are driven along", () => {
  const playout = driven(10);
  const last = fixOf(16, START + 16_000, east(100, 60), null);
  playout.add(last, 16_400); // a welcome's
  playout.addLate([11, 12, 13, 14, 15].map((second) =>
    fixOf(second + 1, START + second * 1000, east(100, (second - 10) * 10), null))); // prettier-ignore
  const shown = frames(playout, 16_400, 24_000);
  assert.ok(shown.every((each) => Math.abs(distance(each, east(100)) + distance(each, last) - 60) < 0.5
    || each.longitude <= last.longitude)); // prettier-ignore
  assert.equal(distance(shown.at(-1)!, last), 0);
});

test("it fades over a gap and over what nobody can drive", () => {
  for (const [at, place] of [[32_000, east(320)], [22_000, east(20_000)]] as const) {
    const playout = driven(20);
    const next = live(30, at, place);
    playout.add(next, next.arrivedAt!);
    const shown = frames(playout, next.arrivedAt!, next.arrivedAt! + 3000);
    assert.equal(shown.filter((each) => each.jumped).length, 1);
    for (const each of shown)
      assert.ok(Math.min(distance(each, place), distance(each, east(200))) < 20, "on its way between");
    assert.equal(distance(shown.at(-1)!, place), 0);
  }
});

test("a tab that was hidden shows where it is now, without a race", () => {
  const playout = driven(10);
  for (let second = 11; second <= 40; second += 1) {
    const fix = live(second + 1, second * 1000, east(second * 10));
    playout.add(fix, fix.arrivedAt!); // no frames
  }
  const shown = playout.at(40_400)!;
  assert.ok(shown.jumped);
  assert.ok(START + 40_400 - shown.headAt < 3000);
  assert.ok(!playout.at(40_433)!.jumped);
});

test("off by more than ten seconds it jumps, but not past what is known", () => {
  const playout = driven(10);
  const seconds = [...Array(25).keys()].map((index) => index + 11);
  for (const second of seconds) {
    const fix = { ...live(second + 1, second * 1000, east(second * 10)), arrivedAt: 35_300 };
    playout.add(fix, 35_300);
  }
  const shown = frames(playout, 35_300, 40_000);
  assert.equal(shown.filter((each) => each.jumped).length, 1);
  assert.ok(shown.every((each) => each.headAt <= START + 35_000));
});

test("its nose follows the way that it takes, and holds when it stands", () => {
  const playout = driven(10);
  assert.ok(Math.abs(playout.at(11_300)!.headingDegrees! - 90) < 0.1);
  // Round a corner to the south, then standing, with the receiver's error.
  const stood = new Set<number>();
  for (let second = 11; second <= 40; second += 1) {
    const south = Math.min(second - 10, 6) * -10;
    const error = second > 17 ? 2 * (second % 2) : 0;
    const fix = live(second + 1, second * 1000, east(100 + error, south));
    playout.add(fix, fix.arrivedAt!);
    let before = playout.at(fix.arrivedAt!)!.headingDegrees!;
    stood.add(second > 22 ? before : 0);
    for (const { headingDegrees } of frames(playout, fix.arrivedAt! + FRAME_MS, fix.arrivedAt! + 990)) {
      assert.ok(headingDegrees! - before <= (360 * FRAME_MS) / 1000 + 0.01);
      assert.ok(headingDegrees! > 89 && headingDegrees! < 181, "the long way round");
      before = headingDegrees!;
    }
  }
  assert.ok(Math.abs(playout.at(41_300)!.headingDegrees! - 180) < 30);
  assert.equal(stood.size, 2);
});

test("the heading is known from the route at once, and null of one who never moved", () => {
  const playout = new Playout();
  playout.add(fixOf(30, START + 60_000, east(100), null), 0);
  assert.equal(playout.at(0)!.headingDegrees, null);
  playout.addLate([...Array(11).keys()].map((second) =>
    fixOf(second + 1, START + second * 1000, east(second * 10), null))); // prettier-ignore
  assert.ok(Math.abs(playout.at(33)!.headingDegrees! - 90) < 0.1);
});

test("a parked vehicle needs no frames, and is on its way again with the next fix", () => {
  const playout = driven(10);
  for (let second = 11; second <= 30; second += 1) {
    const fix = live(second + 1, second * 1000, east(100));
    playout.add(fix, fix.arrivedAt!);
    if (second > 15) assert.equal(playout.at(fix.arrivedAt!)!.moving, false);
  }
  const fix = live(32, 31_000, east(110));
  playout.add(fix, fix.arrivedAt!);
  const shown = frames(playout, fix.arrivedAt!, fix.arrivedAt! + 3000);
  assert.ok(shown[0]!.moving && !shown.some((each) => each.jumped));
  assert.ok(distance(shown[0]!, east(100)) < 5);
});

test("who wants no motion sees steps", () => {
  const playout = driven(10);
  playout.step = true;
  const fix = live(12, 11_000, east(100, -10));
  playout.add(fix, fix.arrivedAt!);
  const shown = playout.at(fix.arrivedAt!)!;
  assert.equal(distance(shown, fix), 0);
  assert.deepEqual([shown.moving, shown.jumped, shown.aheadOfMarker], [false, false, null]);
  assert.ok(Math.abs(shown.headingDegrees! - 180) < 0.1);
});

test("it crosses the antimeridian the short way", () => {
  const playout = new Playout();
  for (let second = 0; second < 10; second += 1) {
    const longitude = 179.9995 + second * 0.0001;
    const place = { longitude: longitude > 180 ? longitude - 360 : longitude, latitude: -17 };
    const fix = live(second + 1, second * 1000, place);
    playout.add(fix, fix.arrivedAt!);
    for (const shown of frames(playout, fix.arrivedAt!, fix.arrivedAt! + 990))
      assert.ok(!shown.jumped && Math.abs(shown.longitude) > 179.999);
  }
});

test("after a reset it knows nothing", () => {
  const playout = driven(10);
  playout.reset();
  assert.equal(playout.at(20_000), null);
  const fix = live(1, 0, east(5000));
  playout.add(fix, 20_000);
  assert.deepEqual([playout.at(20_000)!.jumped, playout.at(20_000)!.headingDegrees], [false, null]);
});

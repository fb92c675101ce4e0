// Drives whose true way is known, the reports that a phone would send of them, and how the marker's
// motion compares.

import type { Fix } from "service-tracking-client";
import { between, distance, offset, quantile, type Place } from "../src/motion/path.ts";
import { Playout, type Shown } from "../src/motion/playout.ts";

/** The true way: a place each `stepMs`. */
export interface Drive {
  stepMs: number;
  places: [longitude: number, latitude: number][];
}

export interface Conditions {
  intervalMs: number;
  /** Of each axis. */
  noiseM: number;
  /** Share of reports with which one begins: until its end, in 2 to 6 s, nothing gets through. */
  outages: number;
  /** Share of reports with which some go astray, to be delivered 3 to 8 s later, behind newer ones. */
  late: number;
  /** Phone's clock − true time. */
  clockMs: number;
}

export interface Delivery {
  at: number;
  fixes: Fix[];
  isLate: boolean;
}

export interface Figures {
  lags: number[];
  offTheWay: number;
  pastTheLast: number;
  backMs: number;
  backM: number;
  /** Share of the frames in which the vehicle drove that the marker stood. */
  still: number;
  jumps: number;
  fastest: number;
  turned: number;
}

const EPOCH = Date.UTC(2026, 1, 6, 10);
const FRAME_MS = 1000 / 30;
const NETWORK_MS = 250;
const JITTER_MS = 200;
const METRES_PER_DEGREE = 111_195;
// The way crosses itself: it is looked for around the time that is shown.
const AROUND_MS = 12_000;
const DRIVING = 1.5; // m/s

/** The same numbers for the same seed. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

export function truth(drive: Drive, at: number): Place {
  const step = Math.min(Math.max(at / drive.stepMs, 0), drive.places.length - 1.001);
  const [from, to] = [drive.places[Math.floor(step)]!, drive.places[Math.floor(step) + 1]!];
  const place = ([longitude, latitude]: [number, number]) => ({ longitude, latitude });
  return between(place(from), place(to), step % 1);
}

export function lengthMs(drive: Drive): number {
  return (drive.places.length - 1) * drive.stepMs;
}

export function fixOf(seq: number, at: number, place: Place, arrivedAt: number | null): Fix {
  const recorded_at = new Date(at).toISOString();
  return { seq, ...place, speed_kmh: 0, heading_degrees: 0, recorded_at, at, arrivedAt };
}

export function deliveriesOf(drive: Drive, conditions: Conditions, seed: number): Delivery[] {
  const random = randomOf(seed);
  const { intervalMs, noiseM, outages, late, clockMs } = conditions;
  const found: Delivery[] = [];
  let [seq, blockedUntil, ordered, astray] = [0, 0, 0, 0];
  let batch: Fix[] = [];
  for (let sent = 0; sent < lengthMs(drive); sent += intervalMs) {
    const true_ = truth(drive, sent);
    const parallel = METRES_PER_DEGREE * Math.cos((true_.latitude * Math.PI) / 180);
    const place = {
      longitude: true_.longitude + (noiseM * normal(random)) / parallel,
      latitude: true_.latitude + (noiseM * normal(random)) / METRES_PER_DEGREE,
    };
    seq += 1;
    if (random() < outages) blockedUntil = Math.max(blockedUntil, sent + 2000 + 4000 * random());
    const network = NETWORK_MS - JITTER_MS * Math.log(1 - random());
    const at = Math.max(sent, blockedUntil) + network;
    if (astray === 0 && random() < late) astray = 1 + Math.floor((3000 * random()) / intervalMs);
    const recorded = EPOCH + clockMs + sent;
    if (astray > 0) {
      batch.push(fixOf(seq, recorded, place, null));
      astray -= 1;
      if (astray > 0) continue;
      found.push({ at: at + intervalMs + 3000 + 5000 * random(), fixes: batch, isLate: true });
      batch = [];
      continue;
    }
    ordered = Math.max(ordered, at); // one connection: they do not overtake each other
    found.push({ at: ordered, fixes: [fixOf(seq, recorded, place, ordered)], isLate: false });
  }
  return found.sort((one, other) => one.at - other.at);
}

/** How far from the true way, and how far along it (metres), around a time. */
function project(drive: Drive, metres: number[], place: Place, at: number): [number, number] {
  const around = Math.ceil(AROUND_MS / drive.stepMs);
  const middle = Math.round(at / drive.stepMs);
  let [least, along] = [Number.POSITIVE_INFINITY, 0];
  const first = Math.max(middle - around, 0);
  for (let index = first; index < Math.min(middle + around, drive.places.length - 1); index += 1) {
    const [a, b] = [drive.places[index]!, drive.places[index + 1]!].map(
      ([longitude, latitude]) => ({ longitude, latitude }),
    ) as [Place, Place];
    const [east, north] = offset(a, b);
    const [toEast, toNorth] = offset(a, place);
    const length = east * east + north * north;
    const share = length === 0 ? 0 : (east * toEast + north * toNorth) / length;
    const on = Math.min(Math.max(share, 0), 1);
    const away = Math.hypot(toEast - on * east, toNorth - on * north);
    if (away < least) [least, along] = [away, metres[index]! + on * Math.sqrt(length)];
  }
  return [least, along];
}

function metresOf(drive: Drive): number[] {
  const metres = [0];
  for (let index = 1; index < drive.places.length; index += 1) {
    const step = drive.stepMs;
    const [from, to] = [truth(drive, (index - 1) * step), truth(drive, index * step)];
    metres.push(metres[index - 1]! + distance(from, to));
  }
  return metres;
}

/** The whole drive, frame by frame, as a page would show it. */
export function play(drive: Drive, deliveries: Delivery[], clockMs: number): Figures {
  const playout = new Playout();
  const metres = metresOf(drive);
  const figures: Figures = { lags: [], offTheWay: 0, pastTheLast: 0, backMs: 0, backM: 0,
    still: 0, jumps: 0, fastest: 0, turned: 0 }; // prettier-ignore
  let [next, newest, driving, still] = [0, Number.NEGATIVE_INFINITY, 0, 0];
  let before: { shown: Shown; along: number } | null = null;
  for (let now = 0; now < lengthMs(drive); now += FRAME_MS) {
    for (; next < deliveries.length && deliveries[next]!.at <= now; next += 1) {
      const { fixes, isLate, at } = deliveries[next]!;
      for (const fix of fixes) newest = Math.max(newest, fix.at);
      if (isLate) playout.addLate(fixes);
      else playout.add(fixes[0]!, at);
    }
    const shown = playout.at(now);
    if (shown === null) continue;
    const head = shown.headAt - EPOCH - clockMs;
    const [away, along] = project(drive, metres, shown, head);
    figures.lags.push(now - head);
    figures.offTheWay = Math.max(figures.offTheWay, away);
    figures.pastTheLast = Math.max(figures.pastTheLast, shown.headAt - newest);
    if (before !== null) {
      const moved = distance(before.shown, shown);
      const speed = (distance(truth(drive, head), truth(drive, head + 200)) * 1000) / 200;
      driving += Number(speed > DRIVING);
      still += Number(speed > DRIVING && moved < 0.001);
      figures.backMs = Math.max(figures.backMs, before.shown.headAt - shown.headAt);
      figures.backM = Math.max(figures.backM, before.along - along);
      figures.jumps += Number(shown.jumped);
      if (!shown.jumped) figures.fastest = Math.max(figures.fastest, (moved * 1000) / FRAME_MS);
      figures.turned = Math.max(figures.turned, turned(before.shown, shown));
    }
    before = { shown, along };
  }
  figures.still = still / driving;
  return figures;
}

function turned(before: Shown, shown: Shown): number {
  if (before.headingDegrees === null || shown.headingDegrees === null) return 0;
  const arc = Math.abs(shown.headingDegrees - before.headingDegrees);
  return (Math.min(arc, 360 - arc) * 1000) / FRAME_MS;
}

/** Of several drives: the worst of each, and the shares of all. */
export function summary(all: Figures[]): Record<string, number> {
  const lags = all.flatMap((figures) => figures.lags);
  const worst = (name: Exclude<keyof Figures, "lags">) => Math.max(...all.map((each) => each[name]));
  return {
    lagP50: quantile(lags, 0.5) / 1000,
    lagP95: quantile(lags, 0.95) / 1000,
    lagMax: lags.reduce((one, other) => Math.max(one, other), 0) / 1000,
    offTheWay: worst("offTheWay"),
    pastTheLast: worst("pastTheLast"),
    backMs: worst("backMs"),
    backM: worst("backM"),
    still: all.reduce((sum, each) => sum + each.still, 0) / all.length,
    jumps: all.reduce((sum, each) => sum + each.jumps, 0),
    fastest: worst("fastest"),
    turned: worst("turned"),
  };
}

// The waypoints in the order of their recorded time, in one array that stays sorted.

import type { Run, Waypoint } from "./messages.ts";

/** A waypoint with its times as numbers. */
export interface Fix extends Waypoint {
  /** `recorded_at` in milliseconds since 1970, microseconds as a fraction. */
  at: number;
  /** When it came live, on the clock `now` of this device; null of what a backfill or a welcome brought. */
  arrivedAt: number | null;
}

export function fixOf(point: Waypoint, arrivedAt: number | null): Fix {
  const { seq, latitude, longitude, speed_kmh, heading_degrees, recorded_at, received_at } = point;
  const at = milliseconds(recorded_at);
  const fix = { seq, latitude, longitude, speed_kmh, heading_degrees, recorded_at, at, arrivedAt };
  return received_at === undefined ? fix : { ...fix, received_at };
}

/** Since 1970. Date.parse is only bound to read three digits of a second. */
export function milliseconds(time: string): number {
  const fraction = /\.\d+/.exec(time)?.[0] ?? "";
  return Date.parse(time.replace(fraction, "")) + 1000 * Number(fraction || 0);
}

export function isLater(one: Fix, other: Fix): boolean {
  return one.at > other.at || (one.at === other.at && one.seq > other.seq);
}

/**
 * Put these into the sorted route; they are sorted themselves. True if one went before an end that
 * was there. Costs as much as lies behind the earliest of them: nothing for live positions.
 */
export function insert(route: Fix[], fixes: Fix[]): boolean {
  fixes.sort((one, other) => (isLater(one, other) ? 1 : -1));
  let old = route.length - 1;
  const end = old;
  for (const fix of fixes) route.push(fix); // makes room: it is overwritten from the end
  let free = route.length - 1;
  for (let next = fixes.length - 1; next >= 0; free -= 1) {
    const [known, fix] = [route[old], fixes[next]!];
    if (old >= 0 && isLater(known!, fix)) {
      route[free] = known!;
      old -= 1;
    } else {
      route[free] = fix;
      next -= 1;
    }
  }
  return old < end;
}

/** Whether the seq is in one of the runs, which come in order. */
export function holds(runs: readonly Run[], seq: number): boolean {
  let [low, high] = [0, runs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[middle]![1] < seq) low = middle + 1;
    else high = middle;
  }
  return low < runs.length && runs[low]![0] <= seq;
}

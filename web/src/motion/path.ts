// The fixes around the marker as a path through time, and distances on the small piece of the globe
// that it covers.

import type { Fix } from "service-tracking-client";

export interface Place {
  longitude: number;
  latitude: number;
}

const METRES_PER_DEGREE = 111_195; // of latitude, on the mean sphere
// Nobody carries a pet faster: it is two places, not a way.
const TOO_FAST = 70; // m/s
const LONGEST_GLIDE_MS = 60_000;
// What is learned of the trip's pace is learned from so many fixes.
export const LEARNED = 40;
// Behind the marker: enough for its heading after a long stop.
const KEPT = 256;

function wrapped(degrees: number): number {
  return ((((degrees + 180) % 360) + 360) % 360) - 180;
}

/** Metres east and north from one place to another. */
export function offset(from: Place, to: Place): [number, number] {
  const parallel = Math.cos((((from.latitude + to.latitude) / 2) * Math.PI) / 180);
  return [
    wrapped(to.longitude - from.longitude) * METRES_PER_DEGREE * parallel,
    (to.latitude - from.latitude) * METRES_PER_DEGREE,
  ];
}

export function distance(from: Place, to: Place): number {
  return Math.hypot(...offset(from, to));
}

export function between(from: Place, to: Place, share: number): Place {
  return {
    longitude: wrapped(from.longitude + share * wrapped(to.longitude - from.longitude)),
    latitude: from.latitude + share * (to.latitude - from.latitude),
  };
}

/** Clockwise from north. */
export function bearing(from: Place, to: Place): number {
  const [east, north] = offset(from, to);
  return ((Math.atan2(east, north) * 180) / Math.PI + 360) % 360;
}

/** The shorter way round from one heading to another; negative to the left. */
export function arc(from: number, to: number): number {
  return wrapped(to - from);
}

/** The value below which so large a share of the values lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

export class Path {
  /** By recorded time. */
  readonly fixes: Fix[] = [];
  /** Usual time between two fixes; null until there are two. */
  usualInterval: number | null = null;

  get newest(): Fix | null {
    return this.fixes.at(-1) ?? null;
  }

  clear(): void {
    this.fixes.length = 0;
    this.usualInterval = null;
  }

  /** False if it was there; live ones go to the end at once. */
  insert(fix: Fix): boolean {
    let place = this.fixes.length;
    while (place > 0 && this.fixes[place - 1]!.at > fix.at) place -= 1;
    for (let index = place - 1; index >= 0 && this.fixes[index]!.at === fix.at; index -= 1)
      if (this.fixes[index]!.seq === fix.seq) return false;
    this.fixes.splice(place, 0, fix);
    return true;
  }

  /** Learn the pace, and forget what lies far behind this time. */
  settle(head: number): void {
    const behind = this.before(head);
    if (behind > 2 * KEPT) this.fixes.splice(0, behind - KEPT);
    const recent = this.fixes.slice(-LEARNED - 1);
    const gaps = recent.slice(1).map((fix, index) => fix.at - recent[index]!.at);
    this.usualInterval = gaps.length > 0 ? quantile(gaps, 0.5) : null;
  }

  /** Index of the last fix that is no later than this; 0 if all are. */
  before(at: number): number {
    let index = this.fixes.length - 1;
    while (index > 0 && this.fixes[index]!.at > at) index -= 1;
    return Math.max(index, 0);
  }

  /** Where the marker is at this time; at either end it stands. */
  at(at: number): Place {
    const index = this.before(at);
    const [from, to] = [this.fixes[index]!, this.fixes[index + 1]];
    if (to === undefined || at <= from.at) return from;
    return between(from, to, (at - from.at) / (to.at - from.at));
  }

  /**
   * The marker does not glide from this fix to the next. This is about motion, and stricter than the gap
   * of a record (trip/legs.ts): every gap is a leap.
   */
  isLeap(index: number): boolean {
    const [from, to] = [this.fixes[index]!, this.fixes[index + 1]];
    if (to === undefined) return false;
    const elapsed = to.at - from.at;
    // With a few reports lost it still is a way that somebody drove.
    const longest = Math.min(LONGEST_GLIDE_MS, 10 * (this.usualInterval ?? LONGEST_GLIDE_MS));
    // Two reports of the same second are as far apart as the receiver's error, in no time.
    return elapsed > longest || distance(from, to) > (TOO_FAST * Math.max(elapsed, 1000)) / 1000;
  }

  /** The time from `from` up to `until` at which the path is nearest to a place. */
  nearest(place: Place, from: number, until: number): number {
    let [best, least] = [from, distance(this.at(from), place)];
    for (let index = this.before(from); index < this.fixes.length - 1; index += 1) {
      const start = Math.max(this.fixes[index]!.at, from);
      const end = Math.min(this.fixes[index + 1]!.at, until);
      if (start >= end) continue;
      const [a, b] = [this.at(start), this.at(end)];
      const [east, north] = offset(a, b);
      const [toEast, toNorth] = offset(a, place);
      const length = east * east + north * north;
      const share = length === 0 ? 0 : (east * toEast + north * toNorth) / length;
      const at = start + Math.min(Math.max(share, 0), 1) * (end - start);
      const away = distance(this.at(at), place);
      if (away < least - 0.01) [best, least] = [at, away]; // of two as near the earlier
    }
    return best;
  }
}

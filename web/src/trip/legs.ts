// Which parts of a route were driven as drawn, and which are only known by their ends.

import type { Fix } from "service-tracking-client";
import { metresBetween } from "../map/mercator.ts";

// A gap is longer than a minute and than five usual intervals: tracking/domain/gaps.py, as in the
// summary and the exports.
const LEAST_GAP_MS = 60_000;
const USUAL_INTERVALS = 5;

/** From one fix to the next. */
export interface Leg {
  from: Fix;
  to: Fix;
  metres: number;
  isGap: boolean;
}

/** The median of the milliseconds between neighbours; 0 of a route without any. */
function usualInterval(route: readonly Fix[]): number {
  const intervals = Float64Array.from(route.slice(1), (fix, index) => fix.at - route[index]!.at);
  intervals.sort();
  const middle = intervals.length >> 1;
  const upper = intervals[middle] ?? 0;
  return intervals.length % 2 === 1 ? upper : (upper + (intervals[middle - 1] ?? 0)) / 2;
}

/** All legs of a route in the order of recorded time. */
export function legsOf(route: readonly Fix[]): Leg[] {
  const longest = Math.max(LEAST_GAP_MS, USUAL_INTERVALS * usualInterval(route));
  const legs: Leg[] = [];
  for (let index = 1; index < route.length; index++) {
    const from = route[index - 1]!;
    const to = route[index]!;
    legs.push({ from, to, metres: metresBetween(from, to), isGap: to.at - from.at > longest });
  }
  return legs;
}

/** The way so far, gaps as the crow flies. */
export function metresOf(route: readonly Fix[]): number {
  let metres = 0;
  for (let index = 1; index < route.length; index++) {
    metres += metresBetween(route[index - 1]!, route[index]!);
  }
  return metres;
}

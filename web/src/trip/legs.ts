// Which parts of a route were driven as drawn, and which are only known by their ends.

import type { Fix } from "service-tracking-client";
import { metresBetween } from "../map/mercator.ts";

const LONGEST_GAP_MS = 60_000;
const TIMES_THE_USUAL = 10;
const FASTEST_M_PER_S = 70;
// Of so many intervals the usual one is computed: a phone keeps its rhythm.
const SAMPLE = 200;

/** From one fix to the next. */
export interface Leg {
  from: Fix;
  to: Fix;
  metres: number;
  isGap: boolean;
}

/** The median interval of a route's newest part, in ms; 0 while there is none. */
export function usualInterval(route: readonly Fix[]): number {
  const intervals: number[] = [];
  for (let index = Math.max(1, route.length - SAMPLE); index < route.length; index++) {
    intervals.push(route[index]!.at - route[index - 1]!.at);
  }
  intervals.sort((a, b) => a - b);
  return intervals[intervals.length >> 1] ?? 0;
}

/** Too long without a fix, or farther than anybody drives. */
export function isGap(from: Fix, to: Fix, usual: number): boolean {
  const ms = to.at - from.at;
  if (ms > Math.min(LONGEST_GAP_MS, Math.max(TIMES_THE_USUAL * usual, 1000))) return true;
  return metresBetween(from, to) > (FASTEST_M_PER_S * Math.max(ms, 1000)) / 1000;
}

/** All legs of a route in the order of recorded time. */
export function legsOf(route: readonly Fix[]): Leg[] {
  const usual = usualInterval(route);
  const legs: Leg[] = [];
  for (let index = 1; index < route.length; index++) {
    const from = route[index - 1]!;
    const to = route[index]!;
    legs.push({ from, to, metres: metresBetween(from, to), isGap: isGap(from, to, usual) });
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

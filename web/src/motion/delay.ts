// How far behind the newest report the marker is shown, so that the next one is there in time.

import type { Fix } from "service-tracking-client";
import { LEARNED, quantile } from "./path.ts";

// Most fixes, not all: who waits for the latest of a hundred is always as late as that one.
const IN_TIME = 0.8;
const SLACK_MS = 200;
const LONGEST_MS = 8_000;
// Seconds a second: changed faster, the marker would visibly brake or race.
const RISE = 0.25;
const FALL = 0.05;

/** Needs no clock of the server: the least delay seen is the difference of the clocks. */
export class Delay {
  private readonly delays: number[] = []; // arrival − recorded time of the last live fixes
  private value: number | null = null;

  arrived(fix: Fix): void {
    if (fix.arrivedAt === null) return;
    this.delays.push(fix.arrivedAt - fix.at);
    if (this.delays.length > LEARNED) this.delays.shift();
  }

  /** The recorded time that should be under the marker; null until a fix has come live. */
  target(now: number, elapsed: number, usualInterval: number | null): number | null {
    if (this.delays.length === 0) return null;
    const best = Math.min(...this.delays);
    const lateness = quantile(this.delays, IN_TIME) - best;
    const wanted = Math.min((usualInterval ?? 0) + lateness + SLACK_MS, LONGEST_MS);
    const before = this.value ?? wanted;
    this.value = Math.min(Math.max(wanted, before - FALL * elapsed), before + RISE * elapsed);
    return now - best - this.value;
  }

  reset(): void {
    this.delays.length = 0;
    this.value = null;
  }
}

// A record played back: its points come to the same playout as live ones, on a clock of its own.

import type { Fix } from "service-tracking-client";
import type { Playout, Shown } from "../motion/playout.ts";

// The playout takes a longer time without a frame for a page that was hidden.
const SLICE_MS = 500;
// From so many points before the wanted time on it is played through: then the marker is as far
// behind the newest point, and its nose as it was, as if all had been played.
const BEFORE = 20;
// So long after the last point the marker has come up to it, whatever its delay: a minute between
// two points is no gap yet.
const SETTLED_MS = 180_000;

/** No DOM, no clock: `now` is the recorded time up to which the points have come. */
export class Playback {
  now = 0;
  private readonly playout: Playout;
  private points: Fix[] = [];
  private next = 0;
  private hasJumped = false;
  private isMoving = false;

  constructor(playout: Playout) {
    this.playout = playout;
  }

  /** In any order; shown at its end. */
  load(points: readonly Fix[]): Shown | null {
    this.points = points.map((point) => ({ ...point, arrivedAt: point.at }));
    this.points.sort((one, other) => one.at - other.at);
    return this.seek(this.end);
  }

  get begin(): number {
    return this.points[0]?.at ?? 0;
  }

  get end(): number {
    return this.points.at(-1)?.at ?? 0;
  }

  /** The last point is under the marker. */
  get isOver(): boolean {
    return this.now >= this.end && (!this.isMoving || this.now >= this.end + SETTLED_MS);
  }

  /** As it was at that time. */
  seek(at: number): Shown | null {
    this.playout.reset();
    const wanted = Math.min(Math.max(at, this.begin), this.end);
    const come = this.points.findLastIndex((point) => point.at <= wanted) + 1;
    this.next = Math.max(0, come - BEFORE);
    this.playout.addLate(this.points.slice(0, this.next));
    this.now = this.points[this.next]?.at ?? wanted;
    let shown = this.advance(wanted);
    while (wanted === this.end && !this.isOver) shown = this.advance(this.now + SLICE_MS);
    this.hasJumped = false;
    return shown && { ...shown, jumped: false };
  }

  /** Go on to that time; what came since comes one by one. */
  advance(until: number): Shown | null {
    let shown: Shown | null = null;
    do {
      const point = this.points[this.next];
      const slice = Math.min(until, this.now + SLICE_MS);
      if (point !== undefined && point.at <= slice) {
        this.now = Math.max(this.now, point.at);
        this.playout.add(point, this.now);
        this.next += 1;
      } else this.now = slice;
      shown = this.playout.at(this.now);
      this.hasJumped ||= shown?.jumped === true;
      this.isMoving = shown?.moving === true;
    } while (this.now < until);
    if (shown !== null) shown = { ...shown, jumped: this.hasJumped };
    this.hasJumped = false;
    return shown;
  }
}

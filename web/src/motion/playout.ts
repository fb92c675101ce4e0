// The marker's motion: fixes are played a little late, at the pace at which they were recorded. It
// shows only the way between known fixes: it never passes the last one, and never goes back.

import type { Fix } from "service-tracking-client";
import { Delay } from "./delay.ts";
import { Heading } from "./heading.ts";
import { Path, type Place, between, distance } from "./path.ts";

// An error of the play head is made up within about so long.
const SOFTNESS_MS = 2_000;
const SLOWER = 0.25;
const FASTER = 0.35;
// A tab that was hidden, a phone in a tunnel: no race across the city.
const JUMP_MS = 10_000;
// When late fixes change the way under the marker it moves over within so long.
const BLEND_MS = 800;
const FAR_M = 60;
// Without frames for so long the page was hidden.
const UNSEEN_MS = 1_000;
// Less is no motion: a parked vehicle needs no frames, though its fixes go on.
const STILL_M = 0.3;

export interface Shown {
  longitude: number;
  latitude: number;
  /** Clockwise from north; null while it was never known. */
  headingDegrees: number | null;
  /** More frames are needed. */
  moving: boolean;
  /** The newest fix while the marker is behind it. */
  aheadOfMarker: Fix | null;
  /** The recorded time under the marker, in milliseconds since 1970. */
  headAt: number;
  /** Here it did not glide: fade. */
  jumped: boolean;
}

/** No DOM, no clock: `now` is milliseconds that only grow, the clock of `fix.arrivedAt`. */
export class Playout {
  /** For those who want no motion: the marker steps with each fix. */
  step = false;
  private readonly path = new Path();
  private readonly delay = new Delay();
  private readonly heading = new Heading();
  private head: number | null = null;
  private last = 0; // when the head was moved
  private hasJumped = false;
  private seen: { at: number; place: Place } | null = null;
  /** Where the marker was when the way under it changed. */
  private blend: { from: Place; left: number } | null = null;

  /** A fix that moves the marker. */
  add(fix: Fix, now: number): void {
    this.advance(now);
    this.delay.arrived(fix);
    this.addLate([fix]);
  }

  /** Waypoints of the route, old or new, in any order; known ones do no harm. */
  addLate(fixes: readonly Fix[]): void {
    const { head } = this;
    if (head === null) {
      for (const fix of fixes) this.path.insert(fix);
      this.path.settle(Number.POSITIVE_INFINITY);
      return;
    }
    const shown = this.place();
    const index = this.path.before(head);
    const [from, to] = [this.path.fixes[index]!.at, this.path.fixes[index + 1]?.at ?? head];
    const added = fixes.filter((fix) => this.path.insert(fix));
    this.path.settle(head);
    if (added.some((fix) => fix.at >= from && fix.at < to)) this.changeWay(shown, head, to);
  }

  at(now: number): Shown | null {
    const { newest } = this.path;
    if (newest === null) return null;
    this.advance(now);
    const headAt = this.head!;
    const place = this.place();
    const unturned = this.step || this.seen === null ? Number.POSITIVE_INFINITY : now - this.seen.at;
    const headingDegrees = this.heading.turn(this.path, headAt, this.path.at(headAt), unturned);
    const moving = this.isMoving(place) || this.heading.isTurning || this.blend !== null;
    const isBehind = headAt < newest.at && distance(place, newest) > STILL_M;
    const aheadOfMarker = isBehind ? newest : null;
    return { ...place, headingDegrees, moving, aheadOfMarker, headAt, jumped: this.jumped(now, place) };
  }

  /** Recorded time of the newest fix; 0 before the first. */
  get newestAt(): number {
    return this.path.newest?.at ?? 0;
  }

  reset(): void {
    this.path.clear();
    this.delay.reset();
    this.heading.reset();
    this.head = this.seen = this.blend = null;
    this.hasJumped = false;
  }

  /** Move the play head to now. */
  private advance(now: number): void {
    const { newest } = this.path;
    const elapsed = this.head === null ? 0 : Math.max(now - this.last, 0);
    this.last = now;
    if (newest === null) return;
    const target = this.delay.target(now, elapsed, this.path.usualInterval) ?? newest.at;
    if (this.head === null || this.step) this.head = newest.at;
    else this.head = Math.min(this.played(this.head, target, elapsed), newest.at);
    this.leap();
    if (this.blend !== null) this.blend.left -= elapsed;
    if (this.step || (this.blend !== null && this.blend.left <= 0)) this.blend = null;
  }

  private played(head: number, target: number, elapsed: number): number {
    const off = Math.min(target, this.path.newest!.at) - head;
    // Intervals may be longer than the delay: none of them is a jump.
    if (off - elapsed > Math.max(JUMP_MS, 1.5 * (this.path.usualInterval ?? 0))) {
      this.hasJumped = true;
      return head + off;
    }
    const error = target - head - elapsed;
    const rate = Math.min(Math.max(error / SOFTNESS_MS, -SLOWER), FASTER);
    const made = rate * elapsed;
    return head + elapsed + (Math.abs(made) > Math.abs(error) ? error : made);
  }

  /** Nobody knows the way: it is at the end of it at once. */
  private leap(): void {
    for (;;) {
      const index = this.path.before(this.head!);
      const [from, to] = [this.path.fixes[index]!, this.path.fixes[index + 1]];
      if (to === undefined || this.head! < from.at || !this.path.isLeap(index)) return;
      this.head = to.at;
      this.hasJumped = true;
      this.blend = null;
    }
  }

  /** Go on from the place of the new way that is nearest to the marker: not back, not in a leap. */
  private changeWay(shown: Place, head: number, until: number): void {
    this.head = this.path.nearest(shown, head, until);
    const away = distance(shown, this.path.at(this.head));
    if (away > FAR_M) this.hasJumped = true;
    else this.blend = away > 0.01 ? { from: shown, left: BLEND_MS } : null;
  }

  private place(): Place {
    const { longitude, latitude } = this.path.at(this.head!);
    if (this.blend === null) return { longitude, latitude };
    return between({ longitude, latitude }, this.blend.from, this.blend.left / BLEND_MS);
  }

  private isMoving(place: Place): boolean {
    const ahead = this.path.fixes.slice(this.path.before(this.head!) + 1);
    return ahead.some((fix) => fix.at > this.head! && distance(fix, place) > STILL_M);
  }

  private jumped(now: number, place: Place): boolean {
    const { seen } = this;
    const isFar = seen !== null && now - seen.at > UNSEEN_MS && distance(seen.place, place) > FAR_M;
    const jumped = !this.step && (this.hasJumped || isFar);
    this.hasJumped = false;
    this.seen = { at: now, place };
    return jumped;
  }
}

// One trip over a map: its route, its marker in motion, and the camera that follows it. Live on the
// owner's and a friend's page, played back on the operator's: only the clock differs.

import type { Fix } from "service-tracking-client";
import { Playout, type Shown } from "../motion/playout.ts";
import { type Leg, legsOf } from "../trip/legs.ts";
import type { BaseMap } from "./base-map.ts";
import { type Padding, type Place, Projection } from "./mercator.ts";
import { type Ends, Overlay } from "./overlay.ts";
import { theme } from "./theme.ts";

const FADE_MS = 150;
// While it is followed the marker may wander so far from the middle, as a share of what is free.
const FREE_SHARE = 0.3;

const NO_ENDS: Ends = { pickup: null, dropoff: null };

const motion = window.matchMedia("(prefers-reduced-motion: reduce)");

export class TripLayer {
  readonly overlay = new Overlay(theme().overlay);
  readonly playout = new Playout();
  shown: Shown | null = null;
  legs: readonly Leg[] = [];
  private ends: Ends = NO_ENDS;
  private isStale = false;
  private jumpedAt = Number.NEGATIVE_INFINITY;

  constructor() {
    this.playout.step = motion.matches;
    motion.addEventListener("change", () => {
      this.playout.step = motion.matches;
    });
  }

  static get mayAnimate(): boolean {
    return !motion.matches;
  }

  /** By recorded time. */
  setRoute(route: readonly Fix[]): void {
    this.legs = legsOf(route);
    this.overlay.setRoute(this.legs, this.shown?.headAt ?? Number.POSITIVE_INFINITY);
  }

  setEnds(ends: Ends): void {
    this.ends = ends;
    this.overlay.setEnds(ends);
  }

  /** The way so far; before there is any, where it will begin and end. */
  places(): Place[] {
    const places: Place[] = this.legs.flatMap(({ from, to }) => [from, to]);
    if (this.shown !== null) places.push(this.shown);
    if (places.length > 0) return places;
    return [this.ends.pickup, this.ends.dropoff].filter((place) => place !== null);
  }

  get hasPosition(): boolean {
    return this.shown !== null || this.legs.length > 0;
  }

  setStale(isStale: boolean, frameAt: number): void {
    if (this.isStale === isStale) return;
    this.isStale = isStale;
    this.draw(frameAt);
  }

  /** What the playout shows, in the frame of that time. True while more frames are needed. */
  show(shown: Shown | null, frameAt: number): boolean {
    this.shown = shown;
    if (shown?.jumped) this.jumpedAt = frameAt;
    // When it stands, what is left of the way is too short to be seen: no frame will draw it.
    const { newestAt } = this.playout;
    if (shown !== null) this.overlay.advance(shown.moving ? shown.headAt : newestAt);
    this.draw(frameAt);
    return shown?.moving === true || frameAt - this.jumpedAt < FADE_MS;
  }

  /** No more frames follow: whatever fades is there. */
  settle(): void {
    this.draw(Number.POSITIVE_INFINITY);
  }

  clear(): void {
    this.playout.reset();
    this.shown = null;
    this.legs = [];
    this.overlay.setRoute([], Number.POSITIVE_INFINITY);
    this.setEnds(NO_ENDS);
    this.overlay.setPlace(null);
    this.overlay.setMarker(null);
  }

  /** The camera follows in steps: each of them repaints the map, which a battery feels. */
  keepInView(base: BaseMap, padding: Padding, always: boolean): void {
    const { shown } = this;
    if (shown === null) return;
    const { camera } = base;
    const to = new Projection(camera);
    const free = { width: camera.width - padding.left - padding.right,
      height: camera.height - padding.top - padding.bottom };
    const x = Math.abs(to.x(shown.longitude) - padding.left - free.width / 2);
    const y = Math.abs(to.y(shown.latitude) - padding.top - free.height / 2);
    if (always || x > free.width * FREE_SHARE || y > free.height * FREE_SHARE) {
      base.centre(shown, padding, !motion.matches);
    }
  }

  private draw(frameAt: number): void {
    const { shown } = this;
    this.overlay.setMarker(
      shown && {
        longitude: shown.longitude,
        latitude: shown.latitude,
        headingDegrees: shown.headingDegrees,
        opacity: Math.min(1, Math.max(0, (frameAt - this.jumpedAt) / FADE_MS)),
        isStale: this.isStale,
        ring: shown.aheadOfMarker,
      },
    );
  }
}

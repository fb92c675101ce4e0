// The map of one trip: base map below, overlay above, the marker's motion between.

import type { Change, TripState } from "service-tracking-client";
import { Playout, type Shown } from "../motion/playout.ts";
import { type Leg, legsOf } from "../trip/legs.ts";
import type { BaseMap } from "./base-map.ts";
import { openBaseMap } from "./open.ts";
import { boundsOf, type Camera, type Padding, type Place, Projection } from "./mercator.ts";
import { type Ends, Overlay } from "./overlay.ts";
import { onThemeChange, theme } from "./theme.ts";

const FADE_MS = 150;
// While it is followed the marker may wander so far from the middle, as a share of what is free.
const FREE_SHARE = 0.3;
// A page that was hidden for longer may have lost its map's worker.
const HIDDEN_MS = 30_000;
const SLOW_FRAME_MS = 33;

export interface TripMapEvents {
  followed(isFollowing: boolean): void;
  /** The map is drawn without WebGL. */
  degraded(): void;
}

export class TripMap {
  private readonly overlay = new Overlay(theme().overlay);
  private readonly playout = new Playout();
  private base: BaseMap | null = null;
  private legs: Leg[] = [];
  private frame = 0;
  private shown: Shown | null = null;
  private jumpedAt = Number.NEGATIVE_INFINITY;
  private hiddenAt: number | null = null;
  private isStale = false;
  private isFollowing = true;
  private hasFitted = false;
  private making: Promise<void> | null = null;
  private readonly motion = window.matchMedia("(prefers-reduced-motion: reduce)");
  private lastFrame = 0;

  constructor(
    private readonly host: HTMLElement,
    private readonly padding: () => Padding,
    private readonly events: TripMapEvents,
  ) {
    host.append(this.overlay.element);
    this.playout.step = this.motion.matches;
    this.motion.addEventListener("change", () => {
      this.playout.step = this.motion.matches;
    });
    onThemeChange(() => {
      this.overlay.setPalette(theme().overlay);
      this.base?.restyle();
    });
    document.addEventListener("visibilitychange", () => void this.visibility());
    window.addEventListener("online", () => void this.revive());
    this.making = this.make(null);
  }

  /** What the client's model tells; `state` is the whole of it. */
  apply(change: Change, state: TripState): void {
    const now = performance.now();
    if (change.kind === "reset") {
      this.playout.reset();
      this.hasFitted = false;
    } else if (change.kind === "position") {
      this.playout.add(change.fix, now);
    } else if (change.kind === "route") {
      this.playout.addLate(change.added);
    }
    if (change.kind !== "state") this.routeChanged(state);
    this.wake();
  }

  setEnds(ends: Ends): void {
    this.overlay.setEnds(ends);
  }

  setStale(isStale: boolean): void {
    if (this.isStale === isStale) return;
    this.isStale = isStale;
    this.drawMarker(performance.now());
  }

  follow(): void {
    this.setFollowing(true);
    this.keepInView(true);
  }

  showAll(): void {
    this.setFollowing(false);
    this.fit(true);
  }

  zoomBy(steps: number): void {
    this.base?.zoomBy(steps);
  }

  private routeChanged(state: TripState): void {
    this.legs = legsOf(state.route);
    this.overlay.setRoute(this.legs, this.shown?.headAt ?? Number.POSITIVE_INFINITY);
    if (!this.hasFitted && (state.isWhole || state.newest !== null)) {
      this.shown ??= this.playout.at(performance.now());
      this.hasFitted = this.fit(false);
    }
  }

  /** All that is drawn; false while that is nothing, or there is no map. */
  private fit(animate: boolean): boolean {
    const places: Place[] = this.legs.flatMap(({ from, to }) => [from, to]);
    if (this.shown !== null) places.push(this.shown);
    const bounds = boundsOf(places);
    if (bounds === null || this.base === null) return false;
    this.base.fit(bounds, this.padding(), animate && !this.motion.matches);
    return true;
  }

  /** Frames only while something moves, and nobody looks away. */
  private wake(): void {
    if (this.frame === 0 && document.visibilityState === "visible") {
      this.frame = requestAnimationFrame((at) => this.step(at));
    }
  }

  private step(at: number): void {
    this.frame = 0;
    if (at - this.lastFrame < SLOW_FRAME_MS - 4) return this.wake();
    this.lastFrame = at;
    this.shown = this.playout.at(performance.now());
    if (this.shown?.jumped) this.jumpedAt = at;
    if (this.shown !== null) this.overlay.advance(this.shown.headAt);
    this.drawMarker(at);
    this.keepInView(false);
    if (this.shown?.moving || at - this.jumpedAt < FADE_MS) this.wake();
  }

  private drawMarker(at: number): void {
    const { shown } = this;
    this.overlay.setMarker(
      shown && {
        longitude: shown.longitude,
        latitude: shown.latitude,
        headingDegrees: shown.headingDegrees,
        opacity: Math.min(1, Math.max(0, (at - this.jumpedAt) / FADE_MS)),
        isStale: this.isStale,
        ring: shown.aheadOfMarker,
      },
    );
  }

  /** The camera follows in steps: each of them repaints the map, which a battery feels. */
  private keepInView(always: boolean): void {
    const { base, shown } = this;
    if (!this.isFollowing || base === null || shown === null || !this.hasFitted) return;
    const { camera } = base;
    const padding = this.padding();
    const to = new Projection(camera);
    const free = { width: camera.width - padding.left - padding.right,
      height: camera.height - padding.top - padding.bottom };
    const x = Math.abs(to.x(shown.longitude) - padding.left - free.width / 2);
    const y = Math.abs(to.y(shown.latitude) - padding.top - free.height / 2);
    if (always || x > free.width * FREE_SHARE || y > free.height * FREE_SHARE) {
      base.centre(shown, padding, !this.motion.matches);
    }
  }

  private setFollowing(isFollowing: boolean): void {
    if (this.isFollowing === isFollowing) return;
    this.isFollowing = isFollowing;
    this.events.followed(isFollowing);
  }

  private async make(begin: Camera | null): Promise<void> {
    const events = {
      moved: (camera: Camera) => this.overlay.setCamera(camera),
      touched: () => this.setFollowing(false),
      drawn: () => {
        this.host.dataset["drawn"] = this.base?.isWhole === false ? "plain" : "whole";
      },
    };
    this.base = await openBaseMap(this.host, events, begin);
    if (!this.base.isWhole) this.events.degraded();
    this.overlay.setCamera(this.base.camera);
    if (!this.hasFitted && begin === null) this.hasFitted = this.fit(false);
  }

  private async remake(): Promise<void> {
    const camera = this.base?.camera ?? null;
    this.base?.remove();
    this.base = null;
    this.making = this.make(camera);
    await this.making;
  }

  private async visibility(): Promise<void> {
    if (document.visibilityState === "hidden") {
      this.hiddenAt = performance.now();
      cancelAnimationFrame(this.frame);
      this.frame = 0;
      return;
    }
    const hidden = this.hiddenAt === null ? 0 : performance.now() - this.hiddenAt;
    this.hiddenAt = null;
    this.wake();
    if (hidden > HIDDEN_MS) await this.revive();
  }

  /** A map whose worker has died, or never came, is made anew; so is one that had to do without. */
  private async revive(): Promise<void> {
    await this.making;
    if (this.base === null || (this.base.isWhole && (await this.base.isAlive()))) return;
    await this.remake();
  }
}

// The map of one trip: base map below, overlay above, the marker's motion between.

import type { Change, Fix, TripState } from "service-tracking-client";
import type { BaseMap } from "./base-map.ts";
import { openBaseMap } from "./open.ts";
import { around, boundsOf, type Camera, type Padding, type Place } from "./mercator.ts";
import type { Ends } from "./overlay.ts";
import { onThemeChange, theme } from "./theme.ts";
import { TripLayer } from "./trip-layer.ts";

// A page that was hidden for longer may have lost its map's worker.
const HIDDEN_MS = 30_000;
const SLOW_FRAME_MS = 33;

export interface TripMapEvents {
  followed(isFollowing: boolean): void;
  /** The map is drawn without WebGL. */
  degraded(): void;
}

export class TripMap {
  private readonly layer = new TripLayer();
  private base: BaseMap | null = null;
  private frame = 0;
  private hiddenAt: number | null = null;
  private isFollowing = true;
  private hasFitted = false;
  private making: Promise<void> | null = null;
  private lastFrame = 0;
  /** Whose time is shown: of this device, or of a trip that is shown again. */
  private clock: (() => number) | null = null;
  private live: TripState | null = null;

  constructor(
    private readonly host: HTMLElement,
    private readonly padding: () => Padding,
    private readonly events: TripMapEvents,
  ) {
    host.append(this.layer.overlay.element);
    onThemeChange(() => {
      this.layer.overlay.setPalette(theme().overlay);
      this.base?.restyle();
    });
    document.addEventListener("visibilitychange", () => void this.visibility());
    window.addEventListener("online", () => void this.revive());
    this.making = this.make(null);
  }

  /** What the client's model tells; `state` is the whole of it. */
  apply(change: Change, state: TripState): void {
    const { playout } = this.layer;
    this.live = state;
    if (this.clock !== null) return; // what is live is drawn when the replay ends
    if (change.kind === "reset") {
      playout.reset();
      this.hasFitted = false;
    } else if (change.kind === "position") {
      playout.add(change.fix, performance.now());
    } else if (change.kind === "route") {
      playout.addLate(change.added);
    }
    if (change.kind !== "state") this.routeChanged(state);
    this.wake();
  }

  /** From here on only `replayed` moves the marker, on that clock; null: what is live, again. */
  replay(clock: (() => number) | null): void {
    const { layer, live } = this;
    if (this.clock === null && clock !== null) this.showAll();
    this.clock = clock;
    layer.playout.reset();
    layer.shown = null;
    if (clock !== null) layer.overlay.setMarker(null);
    if (clock === null && live !== null) {
      layer.playout.addLate(live.route);
      layer.shown = layer.playout.at(performance.now());
    }
    const until = layer.shown?.headAt ?? clock?.() ?? Number.POSITIVE_INFINITY;
    layer.overlay.setRoute(layer.legs, until);
    this.wake();
  }

  /** It is there at the clock's time. */
  replayed(fix: Fix): void {
    if (this.clock === null) return;
    this.layer.playout.add(fix, this.clock());
    this.wake();
  }

  setEnds(ends: Ends): void {
    this.layer.setEnds(ends);
    if (!this.hasFitted) this.hasFitted = this.fit(false);
  }

  setStale(isStale: boolean): void {
    this.layer.setStale(isStale, performance.now());
  }

  follow(): void {
    this.setFollowing(true);
    this.keepInView(true);
  }

  showAll(): void {
    this.setFollowing(false);
    this.fit(true);
  }

  /** A stop, closely; null: the whole route again. */
  showPlace(place: Place | null): void {
    this.layer.overlay.setPlace(place);
    if (place === null) return this.showAll();
    this.setFollowing(false);
    const bounds = boundsOf(around(place));
    if (bounds !== null) this.base?.fit(bounds, this.padding(), TripLayer.mayAnimate);
  }

  zoomBy(steps: number): void {
    this.base?.zoomBy(steps);
  }

  private routeChanged(state: TripState): void {
    const { layer } = this;
    layer.setRoute(state.route);
    if (!this.hasFitted && (state.isWhole || state.newest !== null)) {
      layer.shown ??= layer.playout.at(performance.now());
      this.hasFitted = this.fit(false);
    }
  }

  /** All that is drawn; false while nobody has moved, or there is no map. */
  private fit(animate: boolean): boolean {
    const bounds = boundsOf(this.layer.places());
    if (bounds === null || this.base === null) return false;
    this.base.fit(bounds, this.padding(), animate && TripLayer.mayAnimate);
    return this.layer.hasPosition;
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
    const now = this.clock?.() ?? performance.now();
    const isMoving = this.layer.show(this.layer.playout.at(now), at);
    this.keepInView(false);
    if (isMoving) this.wake();
  }

  private keepInView(always: boolean): void {
    if (!this.isFollowing || this.base === null || !this.hasFitted) return;
    this.layer.keepInView(this.base, this.padding(), always);
  }

  private setFollowing(isFollowing: boolean): void {
    if (this.isFollowing === isFollowing) return;
    this.isFollowing = isFollowing;
    this.events.followed(isFollowing);
  }

  private async make(begin: Camera | null): Promise<void> {
    const events = {
      moved: (camera: Camera) => this.layer.overlay.setCamera(camera),
      touched: () => this.setFollowing(false),
      drawn: (isWhole: boolean) => {
        this.host.dataset["drawn"] = isWhole ? "whole" : "plain";
      },
    };
    this.base = await openBaseMap(this.host, events, begin);
    if (!this.base.isWhole) this.events.degraded();
    this.layer.overlay.setCamera(this.base.camera);
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

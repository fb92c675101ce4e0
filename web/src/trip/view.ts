// One trip on a page: the client's model, its text, its map, and the buttons between.

import { type Change, Trip, type TripOptions } from "service-tracking-client";
import type { TripMap } from "../map/trip-map.ts";
import type { Ends } from "../map/overlay.ts";
import { byId, setText, show } from "../page/element.ts";
import { words } from "../page/words.ts";
import { Panel } from "./panel.ts";
import { statusOf } from "./status.ts";

const TICK_MS = 1000;
const TOAST_MS = 5000;
const RETRY_MS = 5000;

export class TripView {
  readonly trip: Trip;
  readonly panel = new Panel();
  /** Null until its scripts are there. */
  map: TripMap | null = null;
  private ends: Ends = { pickup: null, dropoff: null };
  private wasWhole = false; // all that was there when the page came has been drawn
  private toastUntil = 0;
  private hasEnded = false;
  private needsLogin = false;

  constructor(
    options: Omit<TripOptions, "server">,
    private readonly ended: (view: TripView) => void,
  ) {
    this.trip = new Trip({ ...options, server: location.origin });
    this.trip.subscribe((change) => this.apply(change));
    this.panel.onWhere(() => this.trip.state);
    window.addEventListener("offline", () => this.trip.offline());
    window.addEventListener("online", () => this.trip.online());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.trip.wake();
    });
    this.name();
    this.refresh();
    setInterval(() => this.refresh(), TICK_MS);
    this.trip.start();
    void this.openMap();
  }

  setEnds(ends: Ends): void {
    this.ends = ends;
    this.panel.dropoff = ends.dropoff;
    this.map?.setEnds(ends);
    this.refresh();
  }

  /** There is no token to be had: it is not the link that is down. */
  setNeedsLogin(needsLogin: boolean): void {
    if (this.needsLogin === needsLogin) return;
    this.needsLogin = needsLogin;
    this.refresh();
  }

  /** A short word for those who see; not for what lasts. */
  toast(text: string): void {
    setText(byId("toast"), text);
    show(byId("toast"), true);
    this.toastUntil = performance.now() + TOAST_MS;
  }

  refresh(): void {
    if (document.visibilityState === "hidden") return;
    const { state } = this.trip;
    const status = statusOf(state, performance.now(), this.needsLogin);
    this.panel.show(state, status);
    this.map?.setStale(status.tone !== "live");
    const isRefused = this.needsLogin || state.link === "refused";
    const isEmpty = isRefused && state.newest === null;
    const isOver = status.tone === "over";
    show(byId("whole"), !isEmpty && !this.panel.isRouteGone && state.routeExpiredAt === null);
    for (const id of ["where", "follow"]) show(byId(id), !isEmpty && !isOver);
    if (performance.now() > this.toastUntil) show(byId("toast"), false);
    if (!this.hasEnded && (state.link === "refused" || state.link === "over")) {
      this.hasEnded = true;
      this.ended(this);
    }
  }

  private apply(change: Change): void {
    this.map?.apply(change, this.trip.state);
    if (change.kind === "reset") this.wasWhole = false;
    if (change.kind === "route" && change.late && change.added.length > 1 && this.wasWhole) {
      this.toast(words.filledIn);
    }
    this.wasWhole ||= this.trip.state.isWhole;
    this.refresh();
  }

  /** Tried on while its scripts cannot be had: the server restarts, or the link is down. */
  private async openMap(): Promise<void> {
    try {
      await this.addMap();
    } catch (error) {
      console.warn(`no map yet: ${String(error)}`);
      setTimeout(() => void this.openMap(), RETRY_MS);
    }
  }

  /** The map library is large: whatever can be read is there before it. */
  private async addMap(): Promise<void> {
    const host = byId("map");
    host.dataset["title"] = words.map;
    const { TripMap } = await import("../map/trip-map.ts");
    const follow = byId<HTMLButtonElement>("follow");
    this.map = new TripMap(host, padding, {
      followed: (isFollowing) => {
        follow.setAttribute("aria-pressed", String(isFollowing));
        setText(follow, isFollowing ? words.following : words.follow);
      },
      degraded: () => this.toast(words.mapFailed),
    });
    this.map.setEnds(this.ends);
    const { state } = this.trip;
    this.map.apply({ kind: "route", added: state.route, late: false }, state);
    if (state.newest !== null) this.map.apply({ kind: "position", fix: state.newest }, state);
    follow.addEventListener("click", () => this.map?.follow());
    byId("whole").addEventListener("click", () => this.map?.showAll());
    byId("zoom-in").addEventListener("click", () => this.map?.zoomBy(1));
    byId("zoom-out").addEventListener("click", () => this.map?.zoomBy(-1));
    this.refresh();
  }

  private name(): void {
    setText(byId("follow"), words.following);
    setText(byId("whole"), words.wholeRoute);
    byId("tools").setAttribute("aria-label", words.map);
    byId("zoom-in").setAttribute("aria-label", words.zoomIn);
    byId("zoom-out").setAttribute("aria-label", words.zoomOut);
    document.title = words.titleTrip;
  }
}

/** What the panel covers of the map. */
function padding(): { top: number; right: number; bottom: number; left: number } {
  const panel = byId("panel").getBoundingClientRect();
  const isBeside = panel.width < window.innerWidth * 0.6;
  return isBeside
    ? { top: 40, right: 72, bottom: 40, left: panel.right + 24 }
    : { top: 60, right: 40, bottom: window.innerHeight - panel.top + 32, left: 40 };
}

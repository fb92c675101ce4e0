// The operator's page, /ops: all active trips at a glance, and one of them closely.

import { openBaseMap } from "./map/open.ts";
import { type BaseMap, CLOSEST_ZOOM } from "./map/base-map.ts";
import { boundsOf, type Camera, fitted, type Padding, type Place } from "./map/mercator.ts";
import { DARK, onThemeChange, theme } from "./map/theme.ts";
import { TripLayer } from "./map/trip-layer.ts";
import { Detail } from "./ops/detail.ts";
import { type DotColours, Dots } from "./ops/dots.ts";
import { Fleet, type FleetTrip } from "./ops/fleet.ts";
import { Finished } from "./ops/finished.ts";
import { Health } from "./ops/health.ts";
import { type Filter, matches, TripList } from "./ops/list.ts";
import { ask, type TripRecord } from "./ops/record.ts";
import { byId, element, setText, show } from "./page/element.ts";
import { loginAddress, takeFragment, token } from "./page/token.ts";
import { words } from "./page/words.ts";
import type { Summary } from "./trip/api.ts";

const MARGIN_PX = 48;
const LIST_EVERY_MS = 1000;
// A service that is slower than that gets its map without trips.
const FIRST_TRIPS_MS = 3000;

takeFragment();
document.documentElement.lang = words.language;
document.title = words.opsTitle;

const filter: Filter = { text: "", freshness: "", phase: "", order: "age" };
const layer = new TripLayer();
const dots = new Dots(dotColours());
const health = new Health(token);
const finished = new Finished(token, (bookingId) => void select(bookingId));
const list = new TripList(byId("list"), (trip) => void select(trip.booking_id));
const detail = new Detail(layer, {
  fit: (points) => fit(points, true),
  follow(always) {
    if (base !== null) layer.keepInView(base, padding(), always);
  },
  closed: deselect,
}, token);
const host = byId("map");
let base: BaseMap | null = null;
let isOpening = false;
let begin: Camera | null = null; // what is seen: where the map is to open
let hasFitted = false;
let isListOld = true;

const fleet = new Fleet(token, {
  changed(trips, removed, all) {
    dots.update(trips, removed, all);
    isListOld = true;
    const selected = trips.find(({ booking_id }) => booking_id === list.selected);
    if (selected !== undefined) detail.heard(selected);
    if (all) refreshList();
    if (!hasFitted && trips.length > 0) hasFitted = fit(dots.places(), false);
    // When they are on the screen: a frame's callbacks come before it is painted.
    if (all) requestAnimationFrame(() => setTimeout(() => void openMap()));
  },
  link(state, code) {
    const badge = byId("badge");
    show(badge, state !== "refused");
    badge.dataset["tone"] = state === "open" ? "live" : "stale";
    setText(badge, state === "open" ? words.live : words.stale);
    setText(byId("notice"), words.link);
    show(byId("notice"), state === "down");
    if (state === "refused") refuse(code);
  },
});

name();
// The played marker lies over its own dot.
host.append(dots.canvas, layer.overlay.element);
show(layer.overlay.element, false);
setTimeout(() => void openMap(), FIRST_TRIPS_MS);
setInterval(refreshList, LIST_EVERY_MS);

function refreshList(): void {
  if (document.visibilityState === "hidden") return;
  if (isListOld) {
    isListOld = false;
    const shown = list.show(fleet.trips.values(), filter);
    setText(byId("count"), words.opsTrips(shown, fleet.trips.size));
  } else list.draw();
}

async function select(bookingId: string): Promise<void> {
  list.selected = dots.selected = bookingId;
  list.draw();
  dots.draw();
  try {
    const path = `/api/v1/ops/trips/${encodeURIComponent(bookingId)}`;
    const record = await ask<TripRecord>(path, token);
    show(layer.overlay.element, true);
    detail.show(record);
    const summary = `/api/v1/tracking/${encodeURIComponent(bookingId)}/summary`;
    detail.sumUp(bookingId, await ask<Summary>(summary, token));
  } catch (error) {
    console.warn(String(error));
  }
}

function deselect(): void {
  show(layer.overlay.element, false); // two pictures less to lay over the map thirty times a second
  list.selected = dots.selected = null;
  list.draw();
  dots.draw();
}

function fit(places: readonly Place[], animate: boolean): boolean {
  const bounds = boundsOf(places);
  if (bounds === null) return false;
  if (base !== null) base.fit(bounds, padding(), animate);
  else if (!isOpening) {
    const size = { width: host.clientWidth, height: host.clientHeight };
    seen(fitted(bounds, size, padding(), CLOSEST_ZOOM));
  } else return false;
  return true;
}

/** On a phone the details lie over a part of the map. */
function padding(): Padding {
  const map = host.getBoundingClientRect();
  const over = byId("detail").getBoundingClientRect();
  const isOver = over.height > 0 && over.left < map.right && over.top < map.bottom;
  const covered = isOver ? map.bottom - over.top : 0;
  const margin = isOver ? MARGIN_PX / 2 : MARGIN_PX;
  return { top: margin, right: MARGIN_PX, bottom: margin + covered, left: MARGIN_PX };
}

function seen(camera: Camera): void {
  begin = camera;
  layer.overlay.setCamera(camera);
  dots.setCamera(camera);
}

/** Once the trips are there: to build a map takes the page's thread for a second and more. */
async function openMap(): Promise<void> {
  if (isOpening) return;
  isOpening = true;
  host.dataset["title"] = words.map;
  base = await openBaseMap(host, {
    moved: seen,
    touched: () => detail.touched(),
    drawn(isWhole) {
      host.dataset["drawn"] = isWhole ? "whole" : "plain";
    },
  }, begin);
  seen(base.camera);
  if (!hasFitted && fleet.trips.size > 0) hasFitted = fit(dots.places(), false);
  host.addEventListener("click", (event) => {
    const box = host.getBoundingClientRect();
    const trip = dots.at(event.clientX - box.left, event.clientY - box.top);
    if (trip !== null) void select(trip.booking_id);
  });
  onThemeChange(() => {
    layer.overlay.setPalette(theme().overlay);
    dots.setColours(dotColours());
    base?.restyle();
  });
}

function refuse(code: number): void {
  const needsLogin = code === 4501;
  setText(byId("login-text"), needsLogin ? words.expired : words.opsRefused);
  show(byId("login"), true);
  const address = needsLogin ? loginAddress() : null;
  const link = byId<HTMLAnchorElement>("login-link");
  show(link, address !== null);
  if (address !== null) link.href = address;
  setText(link, words.signIn);
}

function name(): void {
  setText(byId("headline"), words.opsTitle);
  setText(byId("whole"), words.opsAll);
  byId("tabs").setAttribute("aria-label", words.opsTitle);
  byId("tools").setAttribute("aria-label", words.map);
  byId("health").setAttribute("aria-label", words.opsHealth);
  byId("zoom-in").setAttribute("aria-label", words.zoomIn);
  byId("zoom-out").setAttribute("aria-label", words.zoomOut);
  byId("zoom-in").addEventListener("click", () => base?.zoomBy(1));
  byId("zoom-out").addEventListener("click", () => base?.zoomBy(-1));
  byId("whole").addEventListener("click", () => fit(dots.places(), true));
  byId("filters").append(...filters());
  byId("tabs").append(...tabs());
}

function filters(): HTMLElement[] {
  const search = element("input", { type: "search", autocomplete: "off" });
  search.addEventListener("input", () => {
    filtered({ text: search.value.trim() });
    finished.search(search.value.trim());
  });
  return [
    element("label", {}, words.opsSearch, search),
    choice(words.opsOrder, [["age", words.opsByAge], ["number", words.opsByNumber],
      ["speed", words.opsBySpeed]], (order) => filtered({ order: order as Filter["order"] })),
    choice(words.opsFreshness, [["", words.opsAll], ["live", words.opsLive],
      ["stale", words.opsStale], ["lost", words.opsLost]], (freshness) => filtered({ freshness })),
    choice(words.opsPhase, [["", words.opsAll], ["to_pickup", words.opsToPickup],
      ["to_dropoff", words.opsToDropoff]], (phase) => filtered({ phase })),
  ];
}

function choice(
  label: string, options: [string, string][], chosen: (value: string) => void,
): HTMLElement {
  const select = element("select");
  for (const [value, text] of options) select.append(element("option", { value }, text));
  select.addEventListener("change", () => chosen(select.value));
  return element("label", {}, label, select);
}

function filtered(change: Partial<Filter>): void {
  Object.assign(filter, change);
  isListOld = true;
  refreshList();
  dots.filter((trip: FleetTrip) => matches(trip, filter));
}

function tabs(): HTMLElement[] {
  const trips = element("button", { type: "button", "aria-pressed": "true" }, words.opsMap);
  const service = element("button", { type: "button", "aria-pressed": "false" }, words.opsHealth);
  const open = (isHealth: boolean): void => {
    for (const id of ["filters", "count", "list"]) show(byId(id), !isHealth);
    show(byId("finished"), false);
    show(byId("health"), isHealth);
    trips.setAttribute("aria-pressed", String(!isHealth));
    service.setAttribute("aria-pressed", String(isHealth));
    if (isHealth) health.open();
    else health.close();
  };
  trips.addEventListener("click", () => open(false));
  service.addEventListener("click", () => open(true));
  return [trips, service];
}

function dotColours(): DotColours {
  const isDark = theme() === DARK;
  return {
    live: "#2f9e62", stale: "#e08a1e", lost: "#cf3a30", none: "#7a8088",
    casing: isDark ? "#0f1722" : "#ffffff",
    cluster: isDark ? "#1b2737" : "#ffffff",
    clusterText: isDark ? "#e8eef6" : "#1c2430",
    selected: theme().overlay.route,
  };
}

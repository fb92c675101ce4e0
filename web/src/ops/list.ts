// The list of trips: as many rows in the document as can be seen, whatever their number.

import { element, setText } from "../page/element.ts";
import * as words from "../page/words.ts";
import { toneOf } from "./dots.ts";
import type { FleetTrip } from "./fleet.ts";
import { standingOf } from "./standing.ts";

const ROW_PX = 60;
const SPARE_ROWS = 4;

export interface Filter {
  text: string;
  freshness: string; // "" for all
  phase: string;
  order: "age" | "number" | "speed";
}

export function matches(trip: FleetTrip, filter: Filter): boolean {
  if (filter.freshness !== "" && trip.freshness_state !== filter.freshness) return false;
  if (filter.phase !== "" && trip.phase !== filter.phase) return false;
  if (filter.text === "") return true;
  const wanted = filter.text.toLowerCase();
  return (
    (trip.booking_number ?? "").toLowerCase().includes(wanted) ||
    trip.booking_id.startsWith(wanted)
  );
}

function compare(order: Filter["order"]): (a: FleetTrip, b: FleetTrip) => number {
  if (order === "number") {
    return (a, b) => (a.booking_number ?? "").localeCompare(b.booking_number ?? "");
  }
  if (order === "speed") return (a, b) => (b.speed_kmh ?? -1) - (a.speed_kmh ?? -1);
  // The one that has been silent for longest needs a look first.
  return (a, b) => (a.received_at ?? 0) - (b.received_at ?? 0);
}

export class TripList {
  private readonly rows = element("div", { class: "rows" });
  private listed: FleetTrip[] = [];
  private readonly nodes: HTMLElement[] = [];
  selected: string | null = null;

  constructor(
    private readonly host: HTMLElement,
    private readonly chosen: (trip: FleetTrip) => void,
  ) {
    host.append(this.rows);
    host.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(host);
  }

  /** Sorted and filtered anew; how many are listed. */
  show(trips: Iterable<FleetTrip>, filter: Filter): number {
    this.listed = [...trips].filter((trip) => matches(trip, filter)).sort(compare(filter.order));
    this.rows.style.height = `${this.listed.length * ROW_PX}px`;
    this.draw();
    return this.listed.length;
  }

  draw(): void {
    const first = Math.max(0, Math.floor(this.host.scrollTop / ROW_PX) - SPARE_ROWS);
    const seen = Math.ceil(this.host.clientHeight / ROW_PX) + 2 * SPARE_ROWS;
    const shown = this.listed.slice(first, first + seen);
    while (this.nodes.length < shown.length) this.nodes.push(this.make());
    const now = Date.now();
    this.nodes.forEach((node, index) => {
      const trip = shown[index];
      node.hidden = trip === undefined;
      if (trip !== undefined) this.fill(node, trip, first + index, now);
    });
  }

  private make(): HTMLElement {
    const node = element(
      "button",
      { type: "button", class: "row" },
      element("span", { class: "dot" }),
      element("strong"),
      element("span", { class: "age" }),
      element("span", { class: "what" }),
    );
    node.addEventListener("click", () => {
      const trip = this.listed.find(({ booking_id }) => booking_id === node.dataset["id"]);
      if (trip !== undefined) this.chosen(trip);
    });
    this.rows.append(node);
    return node;
  }

  private fill(node: HTMLElement, trip: FleetTrip, index: number, now: number): void {
    const text = words.words;
    const [, name, age, what] = node.children;
    node.style.transform = `translateY(${index * ROW_PX}px)`;
    node.dataset["id"] = trip.booking_id;
    node.dataset["tone"] = toneOf(trip);
    node.setAttribute("aria-pressed", String(trip.booking_id === this.selected));
    setText(name!, trip.booking_number ?? trip.booking_id.slice(0, 8));
    setText(age!, trip.received_at === null ? "–" : words.ago(now - trip.received_at));
    // How fast somebody was whom nobody hears any more says nothing.
    const isLive = trip.freshness_state === "live";
    const speed = trip.speed_kmh === null ? "" : words.speed(trip.speed_kmh);
    const more = isLive ? speed : text.opsReason(trip.freshness_reason);
    setText(what!, [standingOf(trip), more].filter((part) => part !== "").join(" · "));
  }
}

// The selected trip: its route on the map, speed over time, events, delays, and playing it back.

import { around, boundsOf, type Place } from "../map/mercator.ts";
import type { TripLayer } from "../map/trip-layer.ts";
import { afterTheTrip } from "../page/after-words.ts";
import { Downloads } from "../page/downloads.ts";
import { byId, element, setText, show } from "../page/element.ts";
import * as words from "../page/words.ts";
import type { Summary } from "../trip/api.ts";
import { SummaryDetails } from "../trip/summary-details.ts";
import { SpeedChart } from "./chart.ts";
import { Player } from "./player.ts";
import type { FleetTrip } from "./fleet.ts";
import { type Point, pointsOf, type TripRecord } from "./record.ts";
import { arrivalOf, standingOf } from "./standing.ts";

export interface DetailEvents {
  fit(places: readonly Place[]): void;
  /** Keep the marker in view; `always`: bring it to the middle. */
  follow(always: boolean): void;
  closed(): void;
}

export class Detail {
  private readonly panel = byId("detail");
  private readonly title = element("h2", { id: "detail-title" });
  private readonly notice = element("p", { class: "notice" }, afterTheTrip.gone);
  private readonly facts = element("dl");
  private readonly events = element("ol", { class: "events" });
  private readonly chart = new SpeedChart((at) => this.player.go(at));
  private readonly player: Player;
  private readonly downloads: Downloads;
  private readonly summary = new SummaryDetails((place) => this.place(place), true);
  private points: readonly Point[] = [];
  private bookingId = "";

  constructor(
    private readonly layer: TripLayer,
    private readonly told: DetailEvents,
    token: (why: "join" | "expired") => Promise<string>,
  ) {
    const text = words.words;
    const close = element("button", { type: "button" }, text.close);
    close.addEventListener("click", () => this.close());
    this.player = new Player(layer, {
      at: (at) => this.chart.mark(at),
      follow: (always) => told.follow(always),
    });
    this.downloads = new Downloads(() => this.bookingId, token);
    this.panel.append(
      element("header", {}, this.title, close),
      this.notice,
      this.facts,
      this.chart.canvas,
      this.player.node,
      this.summary.node,
      this.downloads.node,
      element("h3", {}, text.opsEvents),
      this.events,
    );
  }

  show(record: TripRecord): void {
    const text = words.words;
    const points = pointsOf(record);
    this.bookingId = record.booking_id;
    this.downloads.forget();
    this.summary.forget();
    this.points = points;
    const place = (point: [number, number] | null) =>
      point && { longitude: point[0], latitude: point[1] };
    this.layer.setEnds({ pickup: place(record.pickup), dropoff: place(record.dropoff) });
    show(this.panel, true);
    const isGone = record.route_expired_at !== null;
    show(this.notice, isGone);
    for (const part of [this.chart.canvas, this.player.node, this.downloads.node]) {
      show(part, !isGone);
    }
    this.chart.show(points, text.opsChart);
    this.player.show(points);
    setText(this.title, record.booking_number ?? record.booking_id);
    this.fill([
      [text.opsStatus, standing(standOf(record))],
      ...visits(record),
      [text.driven, words.distance(record.distance_m)],
      ...(isGone ? [] : this.ofPoints(points)),
    ]);
    this.events.replaceChildren(...record.events.map((event) => element(
      "li", {},
      element("strong", {}, text.opsKind(event.kind)),
      element("span", {}, words.dayAndTime(event.occurred_at) + (event.heard_at === null ? ""
        : ` · +${words.delay((event.heard_at - event.occurred_at) / 1000)}`)),
    )));
    if (boundsOf(points) !== null) this.told.fit(points);
  }

  /** What it adds up to, asked for besides; another trip may be shown by now. */
  sumUp(bookingId: string, summary: Summary): void {
    if (bookingId === this.bookingId && !this.panel.hidden) this.summary.show(summary);
  }

  /** A stop, closely; null: all of the trip. */
  private place(place: Place | null): void {
    this.layer.overlay.setPlace(place);
    const places = place === null ? this.points : around(place);
    if (places.length > 0) this.told.fit(places);
  }

  /** The fleet tells of the trip that is shown: how it stands, without its route. */
  heard(trip: FleetTrip): void {
    const status = this.facts.querySelector("dd");
    const isShown = trip.booking_id === this.bookingId; // another's record may be on its way
    if (isShown && status !== null) setText(status, standing(trip));
  }

  /** Somebody has moved the map. */
  touched(): void {
    this.player.follow(false);
  }

  close(): void {
    this.player.stop();
    this.layer.clear();
    show(this.panel, false);
    this.told.closed();
  }

  /** What the points say that are shown. */
  private ofPoints(points: readonly Point[]): [string, string][] {
    const text = words.words;
    return [
      [text.opsPoints, String(points.length)],
      [text.opsOutOfOrder, String(points.filter((point) => point.late).length)],
      [text.opsGaps, String(this.layer.legs.filter((leg) => leg.isGap).length)],
    ];
  }

  private fill(rows: [string, string][]): void {
    this.facts.replaceChildren(...rows.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }
}

type Stand = Pick<FleetTrip, "status" | "phase" | "arrival" | "arrival_at">;

function standing(trip: Stand): string {
  return trip.status === "active" ? standingOf(trip) : words.words.opsKind(trip.status);
}

/** As the fleet would tell of it. */
function standOf({ status, phase, arrivals }: TripRecord): Stand {
  const part = phase === "to_pickup" ? arrivals?.pickup : arrivals?.dropoff;
  return { status, phase, ...arrivalOf(part) };
}

/** When the runner was at the ends of ways that are over; where nothing is said there is no line. */
function visits({ phase, arrivals }: TripRecord): [string, string][] {
  const text = words.words;
  const rows: [string, string][] = [];
  for (const end of ["pickup", "dropoff"] as const) {
    const at = arrivals?.[end]?.arrived_at;
    if (at && phase !== `to_${end}`) rows.push([text.opsArrivedAt(end === "pickup"), words.timeOfDay(Date.parse(at))]);
  }
  return rows;
}


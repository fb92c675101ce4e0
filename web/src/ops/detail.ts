// The selected trip: its route on the map, speed over time, events, delays, and playing it back.

import { boundsOf } from "../map/mercator.ts";
import type { Overlay } from "../map/overlay.ts";
import { byId, element, setText, show } from "../page/element.ts";
import * as words from "../page/words.ts";
import { legsOf } from "../trip/legs.ts";
import { SpeedChart } from "./chart.ts";
import { type Point, pointsOf, type TripRecord } from "./record.ts";

const SPEEDS = [1, 10, 30, 120];
const USUAL_SPEED = 30;
const FRAME_MS = 32;
const METRES_A_DEGREE = 111_195;
const LEAST_CHORD_M = 5;

export interface DetailEvents {
  fit(places: readonly Point[]): void;
  closed(): void;
}

export class Detail {
  private readonly panel = byId("detail");
  private readonly title = element("h2", { id: "detail-title" });
  private readonly facts = element("dl");
  private readonly events = element("ol", { class: "events" });
  private readonly slider = element("input", { type: "range", min: "0", max: "1000", value: "1000" });
  private readonly play = element("button", { type: "button", class: "primary" });
  private readonly pace = element("select");
  private readonly clock = element("output");
  private readonly chart = new SpeedChart((at) => this.go(at));
  private points: Point[] = [];
  private at = 0;
  private frame = 0;
  private last = 0;

  constructor(
    private readonly overlay: Overlay,
    private readonly told: DetailEvents,
  ) {
    const text = words.words;
    const close = element("button", { type: "button" }, text.close);
    close.addEventListener("click", () => this.close());
    for (const speed of SPEEDS) {
      const option = element("option", { value: String(speed) }, `${speed} ×`);
      option.selected = speed === USUAL_SPEED;
      this.pace.append(option);
    }
    this.pace.setAttribute("aria-label", text.opsPace);
    this.slider.setAttribute("aria-label", text.opsTime);
    setText(this.play, text.opsPlay);
    this.play.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => {
      const { begin, end } = this.span();
      this.go(begin + ((end - begin) * Number(this.slider.value)) / 1000);
    });
    this.panel.append(
      element("header", {}, this.title, close),
      this.facts,
      this.chart.canvas,
      element("div", { class: "player" }, this.play, this.slider, this.pace, this.clock),
      element("h3", {}, text.opsEvents),
      this.events,
    );
  }

  show(record: TripRecord): void {
    this.stop();
    const text = words.words;
    this.points = pointsOf(record);
    setText(this.title, record.booking_number ?? record.booking_id);
    const delays = this.points.map(({ at, receivedAt }) => receivedAt - at).sort((a, b) => a - b);
    const late = this.points.filter((point) => point.late).length;
    const legs = legsOf(this.points);
    this.fill([
      [text.opsStatus, `${record.status} · ${record.phase}`],
      [text.driven, words.distance(record.distance_m)],
      [text.opsPoints, String(this.points.length)],
      [text.opsLate, String(late)],
      [text.opsGaps, String(legs.filter((leg) => leg.isGap).length)],
      [text.opsDelay, seconds(delays[delays.length >> 1]) + " / " + seconds(delays.at(-1))],
    ]);
    this.events.replaceChildren(...record.events.map((event) => element(
      "li", {},
      element("strong", {}, event.kind),
      element("span", {}, `${words.dayAndTime(event.occurred_at)} · +${seconds(
        event.heard_at - event.occurred_at)}`),
    )));
    const place = (point: [number, number] | null) =>
      point && { longitude: point[0], latitude: point[1] };
    this.overlay.setEnds({ pickup: place(record.pickup), dropoff: place(record.dropoff) });
    this.overlay.setRoute(legs, Number.POSITIVE_INFINITY);
    this.chart.show(this.points, text.opsChart);
    show(this.panel, true);
    this.go(this.span().end);
    if (boundsOf(this.points) !== null) this.told.fit(this.points);
  }

  close(): void {
    this.stop();
    this.points = [];
    this.overlay.setRoute([], Number.POSITIVE_INFINITY);
    this.overlay.setEnds({ pickup: null, dropoff: null });
    this.overlay.setMarker(null);
    show(this.panel, false);
    this.told.closed();
  }

  private fill(rows: [string, string][]): void {
    this.facts.replaceChildren(...rows.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }

  private span(): { begin: number; end: number } {
    const begin = this.points[0]?.at ?? 0;
    return { begin, end: this.points.at(-1)?.at ?? begin };
  }

  /** Show the trip as it was at that recorded time. */
  private go(at: number): void {
    const { begin, end } = this.span();
    this.at = Math.max(begin, Math.min(end, at));
    const share = end > begin ? (this.at - begin) / (end - begin) : 1;
    this.slider.value = String(Math.round(1000 * share));
    setText(this.clock, this.points.length > 0 ? words.dayAndTime(this.at) : "");
    this.chart.mark(this.at);
    this.overlay.advance(this.at);
    this.drawMarker();
  }

  private drawMarker(): void {
    const index = this.points.findLastIndex((point) => point.at <= this.at);
    const from = this.points[index];
    if (from === undefined) return this.overlay.setMarker(null);
    const to = this.points[index + 1] ?? from;
    const share = to.at > from.at ? (this.at - from.at) / (to.at - from.at) : 0;
    const east = (to.longitude - from.longitude) * Math.cos((from.latitude * Math.PI) / 180);
    const north = to.latitude - from.latitude;
    const moved = Math.hypot(east, north) * METRES_A_DEGREE > LEAST_CHORD_M;
    this.overlay.setMarker({
      longitude: from.longitude + (to.longitude - from.longitude) * share,
      latitude: from.latitude + (to.latitude - from.latitude) * share,
      headingDegrees: moved ? (Math.atan2(east, north) * 180) / Math.PI : null,
      opacity: 1,
      isStale: false,
      ring: null,
    });
  }

  private toggle(): void {
    if (this.frame !== 0) return this.stop();
    const { begin, end } = this.span();
    if (this.at >= end) this.go(begin);
    setText(this.play, words.words.opsPause);
    this.last = performance.now();
    const step = (now: number): void => {
      this.frame = requestAnimationFrame(step);
      if (now - this.last < FRAME_MS - 4) return;
      this.go(this.at + (now - this.last) * Number(this.pace.value));
      this.last = now;
      if (this.at >= this.span().end) this.stop();
    };
    this.frame = requestAnimationFrame(step);
  }

  private stop(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    setText(this.play, words.words.opsPlay);
  }
}

const seconds = (ms: number | undefined): string =>
  ms === undefined ? "–" : `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;

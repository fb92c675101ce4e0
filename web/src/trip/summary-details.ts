// What a trip adds up to, in full: stops, gaps, and how good its record is. Closed until asked for.

import type { Place } from "../map/mercator.ts";
import { element, show } from "../page/element.ts";
import { recordWords } from "../page/record-words.ts";
import * as words from "../page/words.ts";
import type { Gap, Stop, Summary } from "./api.ts";

type Row = [string, string];

export class SummaryDetails {
  readonly node = element("details", { class: "record" });
  private readonly stops = element("ul", { class: "stops" });
  private chosen: HTMLElement | null = null;

  /** `shown`: this stop on the map; null: none any more. `isOperator`: with what the service is to be told by. */
  constructor(
    private readonly shown: (place: Place | null) => void,
    private readonly isOperator = false,
  ) {
    show(this.node, false);
  }

  show(summary: Summary): void {
    const text = recordWords;
    const { stops, gaps } = summary;
    this.chosen = null;
    this.stops.replaceChildren(...(stops ?? []).map((stop) => this.stop(stop)));
    this.node.replaceChildren(
      element("summary", {}, text.details),
      ...(stops?.length ? [this.heading(text.stops(stops.length)), this.stops] : []),
      ...(gaps?.length ? [this.heading(text.gaps(gaps.length)), element("ul", { class: "gaps" }, ...gaps.map(gapOf))] : []),
      this.heading(text.quality),
      element("dl", {}, ...this.figures(summary).map(([name, value]) =>
        element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
    );
    show(this.node, true);
  }

  /** Another trip is shown, or none. */
  forget(): void {
    show(this.node, false);
    this.choose(null, null);
  }

  /** One below that of the page's panel. */
  private heading(text: string): HTMLElement {
    return element(this.isOperator ? "h3" : "h2", {}, text);
  }

  private stop(stop: Stop): HTMLElement {
    const { longitude, latitude, at } = stop;
    const where = words.position(latitude, longitude);
    const button = element("button", { type: "button", "aria-pressed": "false" },
      element("strong", {}, span(stop)),
      element("span", {}, at === null ? where : `${recordWords.at[at]} · ${where}`));
    button.addEventListener("click", () => {
      if (this.chosen === button) this.choose(null, null);
      else this.choose(button, { longitude, latitude });
    });
    return element("li", {}, button);
  }

  private choose(button: HTMLElement | null, place: Place | null): void {
    if (this.chosen === button) return;
    this.chosen?.setAttribute("aria-pressed", "false");
    button?.setAttribute("aria-pressed", "true");
    this.chosen = button;
    this.shown(place);
  }

  /** What nobody knows has no line. */
  private figures(summary: Summary): Row[] {
    const text = recordWords;
    const { counts } = summary;
    const flagged = counts.flagged && Object.values(counts.flagged).reduce((sum, each) => sum + each, 0);
    const rows: [string, string | null][] = [
      [text.coverage, of(summary.coverage, words.share)],
      [text.average, of(summary.average_speed_kmh, words.speed)],
      [text.fastest, of(summary.reported_max_speed_kmh, words.speed)],
      [text.positions, of(counts.waypoints, String)],
      [text.late, of(counts.late, String)],
      [text.flagged, of(flagged, String)],
      [text.corrected, of(counts.clock_corrected, String)],
    ];
    if (this.isOperator) {
      const { delay_p50_s, delay_p95_s } = summary;
      const delays = [delay_p50_s, delay_p95_s].map((delay) => of(delay, words.delay) ?? "–");
      rows.splice(3, 0, [text.fastestButOne, of(summary.reported_p99_speed_kmh, words.speed)]);
      rows.push([text.delays, delay_p50_s === null ? null : delays.join(" / ")]);
    }
    return rows.filter((row): row is Row => row[1] !== null);
  }
}

function of(value: number | null, written: (value: number) => string): string | null {
  return value === null ? null : written(value);
}

/** "10:31 – 10:34 · 3 min" */
function span({ from, to, seconds }: Stop | Gap): string {
  const [begin, end] = [from, to].map((time) => words.timeOfDay(Date.parse(time)));
  return `${begin} – ${end} · ${words.duration(seconds * 1000)}`;
}

function gapOf(gap: Gap): HTMLElement {
  const { moved, still } = recordWords;
  const what = gap.kind === "moved" ? moved(words.distance(gap.metres)) : still;
  return element("li", {}, element("strong", {}, span(gap)), element("span", {}, what));
}

// The text of a trip: what it says is known before any map is, and without one.

import type { TripState } from "service-tracking-client";
import { metresBetween, type Place } from "../map/mercator.ts";
import { afterTheTrip } from "../page/after-words.ts";
import { byId, element, setText, show } from "../page/element.ts";
import * as words from "../page/words.ts";
import type { Summary } from "./api.ts";
import { metresOf } from "./legs.ts";
import type { Status, Tone } from "./status.ts";

const SLOW_KMH = 3;
// A day's trip may have dozens; the count says how many there are.
const STOPS_NAMED = 4;

/** Fills the elements that the page's HTML has; see src/ui/trip.html. */
export class Panel {
  private readonly headline = byId("headline");
  private readonly badge = byId("badge");
  private readonly notice = byId("notice");
  private readonly position = byId("position");
  private readonly age = byId("age");
  private readonly facts = byId("facts");
  private readonly live = byId("announce");
  private readonly where = byId<HTMLButtonElement>("where");
  private readonly root = byId("panel");
  private said = "";
  dropoff: Place | null = null;
  /** As the server has it, on the ellipsoid; for a trip that is over. */
  exactMetres: number | null = null;
  /** Of a trip that is over. */
  summary: Summary | null = null;
  startedAt: number | null = null;
  endedAt: number | null = null;
  /** Its route was deleted for its age. */
  isRouteGone = false;

  constructor() {
    setText(this.where, words.words.whereNow);
    document.documentElement.lang = words.words.language;
  }

  /** Everything that can be read. */
  show(state: TripState, status: Status): void {
    this.root.dataset["tone"] = status.tone;
    setText(this.headline, status.headline);
    setText(this.badge, status.badge);
    show(this.badge, status.badge !== "");
    const notice = this.noticeOf(state, status);
    setText(this.notice, notice);
    show(this.notice, notice !== "");
    this.showPosition(state, Date.now());
    this.showFacts(state, status.tone);
    // One polite line for changes; a countdown in the notice is none.
    const change = [status.headline, notice.split(".")[0], status.badge].join(" ").trim();
    if (change !== this.said) {
      this.said = change;
      setText(this.live, change);
    }
  }

  private noticeOf({ routeExpiredAt }: TripState, { notice, tone }: Status): string {
    const isGone = tone === "over" && (this.isRouteGone || routeExpiredAt !== null);
    return isGone ? afterTheTrip.gone : notice;
  }

  private showPosition({ newest, status }: TripState, now: number): void {
    if (newest === null) {
      setText(this.position, status === "active" ? words.words.noPosition : "");
      setText(this.age, "");
      return;
    }
    setText(this.position, words.position(newest.latitude, newest.longitude));
    setText(this.age, words.ago(now - newest.at));
    this.age.setAttribute("title", words.dayAndTime(newest.at));
  }

  private showFacts(state: TripState, tone: Tone): void {
    const text = words.words;
    const isOver = tone === "over";
    const rows: [string, string][] = [];
    const { newest } = state;
    // How fast somebody was whom nobody hears any more says nothing.
    if (newest !== null && tone === "live") {
      const moving = newest.speed_kmh >= SLOW_KMH;
      rows.push([text.speed, moving ? words.speed(newest.speed_kmh) : text.standing]);
    }
    // What was said while the runner was heard is no promise any more.
    if (state.eta !== null && tone === "live") {
      rows.push([text.arrives, words.within(state.eta.earliest, state.eta.latest, Date.now())]);
    }
    const metres = this.summary?.distance_m ?? this.exactMetres ?? metresOf(state.route);
    if (metres > 0) rows.push([text.driven, words.distance(metres)]);
    if (newest !== null && this.dropoff !== null && !isOver) {
      rows.push([text.toGo, words.distance(metresBetween(newest, this.dropoff))]);
    }
    if (isOver) rows.push(...this.times(state));
    if (isOver && this.summary !== null) rows.push(...totals(this.summary));
    this.fill(rows);
  }

  /** As the server has them: a route may begin after its trip, and end before. */
  private times(state: TripState): [string, string][] {
    const text = words.words;
    const rows: [string, string][] = [];
    const started = this.startedAt ?? state.startedAt;
    // A link that begins with the pickup tells of nothing before.
    const begin = started ?? state.pickedUpAt;
    const end = this.endedAt ?? state.completedAt;
    const [beginning, length] =
      started === null ? [text.pickedUp, text.fromPickup] : [text.started, text.duration];
    if (begin !== null) rows.push([beginning, words.dayAndTime(begin)]);
    if (end !== null) rows.push([text.ended, words.dayAndTime(end)]);
    if (begin !== null && end !== null) rows.push([length, words.duration(end - begin)]);
    return rows;
  }

  private fill(rows: [string, string][]): void {
    const nodes = this.facts.children;
    if (nodes.length !== rows.length) {
      this.facts.replaceChildren(
        ...rows.map(() => element("div", {}, element("dt"), element("dd"))),
      );
    }
    rows.forEach(([name, value], index) => {
      const [term, fact] = nodes[index]!.children;
      setText(term!, name);
      setText(fact!, value);
    });
  }

  /** "Where is it now?" in words. */
  onWhere(state: () => TripState): void {
    this.where.addEventListener("click", () => {
      setText(this.live, "");
      setText(this.live, this.sentence(state(), Date.now()));
    });
  }

  private sentence(state: TripState, now: number): string {
    const text = words.words;
    const { newest } = state;
    if (newest === null) return `${this.headline.textContent ?? ""}. ${text.noPosition}`;
    const parts = [
      this.headline.textContent ?? "",
      text.here(words.position(newest.latitude, newest.longitude)),
      words.ago(now - newest.at),
    ];
    if (newest.speed_kmh >= SLOW_KMH) {
      // 0 is north, or unknown: a false north is worse than none.
      const heading = newest.heading_degrees;
      const towards = heading === 0 ? "" : ` ${words.direction(heading)}`;
      parts.push(words.speed(newest.speed_kmh) + towards);
    } else parts.push(text.standing);
    if (this.dropoff !== null) {
      parts.push(`${text.toGo} ${words.distance(metresBetween(newest, this.dropoff))}`);
    }
    if (state.eta !== null && this.root.dataset["tone"] === "live") {
      const { earliest, latest } = state.eta;
      parts.push(`${text.arrives} ${words.within(earliest, latest, now)}`);
    }
    const notice = this.notice.textContent ?? "";
    return [...parts, notice].filter((part) => part !== "").join(". ");
  }
}

/** Where the time went. What nobody knows, or what did not happen, has no line. */
function totals({ moving_s, standing_s, unknown_s, stops }: Summary): [string, string][] {
  const text = words.words;
  const rows: [string, string][] = [];
  if (moving_s !== null) rows.push([text.moved, words.duration(moving_s * 1000)]);
  if (standing_s !== null) rows.push([text.stood, words.duration(standing_s * 1000)]);
  if (unknown_s) rows.push([text.unknown, words.duration(unknown_s * 1000)]);
  if (stops !== null && stops.length > 0) {
    const named = stops.slice(0, STOPS_NAMED).map(({ from, seconds }) =>
      `${words.timeOfDay(Date.parse(from))} (${words.duration(seconds * 1000)})`);
    const more = stops.length > STOPS_NAMED ? ", …" : "";
    rows.push([`${text.stops}: ${stops.length}`, named.join(", ") + more]);
  }
  return rows;
}

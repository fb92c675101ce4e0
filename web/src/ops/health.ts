// What the service does: rates, lag, delay, viewers, dead letters, from its own metrics.

import { byId, element } from "../page/element.ts";
import * as words from "../page/words.ts";
import { ask } from "./record.ts";

interface Sample {
  labels: Record<string, string>;
  value: number;
}

interface Answer {
  at: number;
  metrics: { name: string; type: string; samples: Sample[] }[];
  readiness: Record<string, string>;
}

const EVERY_MS = 2000;

/** What is shown: a name, the metric, as it is or for each second. */
const SHOWN: readonly [name: string, metric: string, isRate: boolean, unit: string][] = [
  ["Events", "tracking_events_total", true, "/s"],
  ["Waypoints stored", "tracking_waypoints_stored_total", true, "/s"],
  ["Positions sent", "tracking_messages_sent_total", true, "/s"],
  ["Outgoing events", "tracking_published_events_total", true, "/s"],
  ["Kafka lag", "tracking_consumer_lag_records", false, ""],
  ["Oldest unstored", "tracking_oldest_unstored_batch_age_seconds", false, " s"],
  ["Viewers", "tracking_subscribers", false, ""],
  ["Rooms", "tracking_rooms", false, ""],
  ["Active trips", "tracking_fleet_trips", false, ""],
  ["Dead letters", "tracking_dead_letters_total", false, ""],
  ["Parked updates", "tracking_parked_updates", false, ""],
  ["Outbox, oldest", "tracking_outbox_oldest_age_seconds", false, " s"],
  ["CPU", "tracking_thread_cpu_seconds_total", true, " cores"],
];

export class Health {
  private readonly host = byId("health");
  private timer: ReturnType<typeof setInterval> | undefined;
  private before: Answer | null = null;

  constructor(private readonly token: (why: "join" | "expired") => Promise<string>) {}

  open(): void {
    this.timer ??= setInterval(() => void this.load(), EVERY_MS);
    void this.load();
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private async load(): Promise<void> {
    if (document.visibilityState === "hidden") return;
    try {
      const now = await ask<Answer>("/api/v1/ops/metrics", this.token);
      this.draw(now);
      this.before = now;
    } catch (error) {
      this.host.replaceChildren(element("p", { class: "notice" }, `${words.words.link}: ${String(error)}`));
    }
  }

  private draw(now: Answer): void {
    const checks = Object.entries(now.readiness).map(([name, told]) => {
      const isFine = told.startsWith("ok");
      return element("li", { "data-fine": String(isFine) }, element("strong", {}, name),
        element("span", {}, told));
    });
    const tiles = SHOWN.flatMap(([name, metric, isRate, unit]) => {
      const value = sum(now, metric);
      if (value === null) return [];
      const old = this.before && sum(this.before, metric);
      const seconds = this.before ? (now.at - this.before.at) / 1000 : 0;
      if (isRate && (old === null || seconds <= 0)) return [tile(name, "…")];
      return [tile(name, figure(isRate ? (value - old!) / seconds : value) + unit)];
    });
    this.host.replaceChildren(
      element("div", { class: "tiles" }, ...tiles),
      element("ul", { class: "checks" }, ...checks),
    );
  }
}

function sum({ metrics }: Answer, name: string): number | null {
  const found = metrics.find((metric) => metric.name === name);
  return found ? found.samples.reduce((total, { value }) => total + value, 0) : null;
}

function tile(name: string, value: string): HTMLElement {
  return element("div", { class: "tile" }, element("span", {}, name), element("strong", {}, value));
}

const figure = (value: number): string =>
  new Intl.NumberFormat(words.words.language, {
    maximumSignificantDigits: 3, maximumFractionDigits: 2, roundingPriority: "lessPrecision",
  }).format(value);

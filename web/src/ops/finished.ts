// Trips that are over, found by a part of their booking number, to be played back.

import { byId, element, show } from "../page/element.ts";
import * as words from "../page/words.ts";
import { ask, Refused, type TripRecord } from "./record.ts";

const LEAST_LETTERS = 3;
const TYPING_MS = 300;
const MOST = 20;

type Found = Pick<TripRecord, "booking_id" | "booking_number" | "status" | "completed_at">;

export class Finished {
  private readonly host = byId("finished");
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asked = 0;

  constructor(
    private readonly token: (why: "join" | "expired") => Promise<string>,
    private readonly chosen: (bookingId: string) => void,
  ) {}

  /** As it is typed; nothing is asked before there are three letters and a rest. */
  search(text: string): void {
    clearTimeout(this.timer);
    this.asked += 1;
    if (text.length < LEAST_LETTERS) return show(this.host, false);
    this.timer = setTimeout(() => void this.load(text, this.asked), TYPING_MS);
  }

  private async load(text: string, number: number): Promise<void> {
    const query = new URLSearchParams({ search: text, limit: String(MOST) });
    try {
      const { trips } = await ask<{ trips: Found[] }>(`/api/v1/ops/trips?${query}`, this.token);
      if (number === this.asked) this.draw(trips.filter(({ status }) => status !== "active"));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      console.warn(`finished trips: ${error.message}`);
    }
  }

  private draw(trips: Found[]): void {
    const rows = trips.map((trip) => {
      const end = trip.completed_at === null ? "" : ` · ${words.dayAndTime(trip.completed_at)}`;
      const row = element("button", { type: "button", class: "found" },
        element("strong", {}, trip.booking_number ?? trip.booking_id.slice(0, 8)),
        element("span", {}, words.words.opsKind(trip.status) + end));
      row.addEventListener("click", () => this.chosen(trip.booking_id));
      return row;
    });
    const nothing = element("p", {}, words.words.opsNothing);
    this.host.replaceChildren(element("h2", {}, words.words.opsFinished),
      ...(rows.length > 0 ? rows : [nothing]));
    show(this.host, true);
  }
}

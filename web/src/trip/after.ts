// What the owner of an ended trip may do with it: see it again, and take it away as a file.

import { afterTheTrip } from "../page/after-words.ts";
import { config } from "../page/config.ts";
import { Downloads } from "../page/downloads.ts";
import { byId } from "../page/element.ts";
import { Player } from "../replay/player.ts";
import type { Summary } from "./api.ts";
import { SummaryDetails } from "./summary-details.ts";
import type { TripView } from "./view.ts";

type Token = (why: "join" | "expiring" | "expired") => Promise<string>;

export class AfterTheTrip {
  private isShown = false;
  private readonly details = new SummaryDetails((place) => this.view.map?.showPlace(place));

  constructor(
    private readonly bookingId: string,
    private readonly token: Token,
    private readonly view: TripView,
  ) {}

  /** Once. Of a route that has gone for its age only the receipt can be had. */
  show(hasRoute: boolean, summary: Summary | null): void {
    if (summary !== null) this.details.show(summary);
    const { route, link } = this.view.trip.state;
    if (this.isShown || link !== "over") return;
    this.isShown = true;
    const host = byId("after");
    const [first, last] = [route[0], route.at(-1)];
    if (first !== undefined && last !== undefined && last.at > first.at) {
      const path = `/ws/tracking/${encodeURIComponent(this.bookingId)}`;
      const span = { begin: first.at, end: last.at };
      host.append(new Player(path, this.token, span, () => this.view.map).node);
    }
    host.append(this.details.node);
    if (!hasRoute && !config.receipts) return;
    const downloads = new Downloads(() => this.bookingId, this.token, hasRoute);
    if (config.receipts) downloads.add(afterTheTrip.receipt, "receipt", "trip.receipt.jws");
    host.append(downloads.node);
  }
}

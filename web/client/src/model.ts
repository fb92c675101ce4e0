// The model of a trip: what the messages of any number of connections add up to.

import { Coverage } from "./coverage.ts";
import type {
  ArrivalPart, ArrivalsPart, Backfill, EtaPart, FreshnessPart, Run, ServerMessage, TrackUpdate, Waypoint, Welcome,
} from "./messages.ts"; // prettier-ignore
import { type Fix, fixOf, holds, insert, isLater, milliseconds } from "./route.ts";
import type { Change, TripArrival, TripEta, TripFreshness, TripState } from "./state.ts";

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

export class Model {
  readonly state: Mutable<TripState>;
  readonly coverage = new Coverage();
  private readonly route: Fix[] = [];
  private readonly wantsHistory: boolean;
  private head = 0; // what there was at joining
  private flagged: readonly Run[] = [];
  private aside: Fix[] = []; // known, and flagged
  private changes: Change[] = [];

  constructor(wantsHistory: boolean) {
    this.wantsHistory = wantsHistory;
    this.state = {
      link: "down", closeCode: null, closeReason: "", retryAt: null,
      bookingId: null, runnerId: null, epoch: null, status: null, phase: null, waiting: false,
      startedAt: null, pickedUpAt: null, completedAt: null, routeExpiredAt: null, freshness: null, pickup: null, dropoff: null, eta: null, newest: null, route: this.route, seq: 0, isWhole: false,
      tokenExpiresAt: null,
    }; // prettier-ignore
  }

  /** What changed by this message, in the order in which to tell it; the state has it all already. */
  apply(message: ServerMessage, arrivedAt: number): Change[] {
    this.changes = [];
    const wasWhole = this.state.isWhole;
    const isKnown = this.take(message, arrivedAt);
    this.state.seq = this.coverage.seq;
    this.state.isWhole = !this.coverage.hasGap && this.coverage.seq >= this.head;
    if (isKnown || wasWhole !== this.state.isWhole) this.changes.push({ kind: "state" });
    return this.changes;
  }

  /** True if more changed than the route and the marker. */
  private take(message: ServerMessage, arrivedAt: number): boolean {
    switch (message.type) {
      case "welcome":
        this.welcome(message);
        return true;
      case "location_update": {
        const fix = fixOf(message, arrivedAt);
        this.add([fix], message.seq - 1, message.seq, false);
        this.move(fix);
        return false;
      }
      case "backfill":
        this.backfill(message);
        return false;
      case "track_update":
        this.trackUpdate(message);
        return true;
      case "flagged":
        this.flag(message.runs);
        return false;
      case "freshness":
        this.state.freshness = freshnessOf(message);
        return true;
      case "arrival":
        this.arrivals(message.arrivals);
        return true;
      case "eta":
        this.state.eta = etaOf(message.eta);
        return true;
      case "heartbeat":
      case "token_expiring": {
        const before = this.state.tokenExpiresAt;
        this.state.tokenExpiresAt = timeOf(message.token_expires_at);
        return before !== this.state.tokenExpiresAt;
      }
      default:
        return false; // of a later version
    }
  }

  private welcome(message: Welcome): void {
    const { state } = this;
    if (message.recovered !== true) this.reset(message);
    this.flag(message.flagged ?? []); // a server of a version before does not say
    this.head = message.seq;
    state.bookingId = message.booking_id ?? null;
    state.runnerId = message.runner_id ?? null;
    state.epoch = message.epoch;
    state.status = message.status;
    state.phase = message.phase ?? null;
    state.waiting = message.waiting ?? false;
    state.freshness = message.freshness ? freshnessOf(message.freshness) : null;
    state.tokenExpiresAt = timeOf(message.token_expires_at);
    this.arrivals(message.arrivals);
    state.eta = etaOf(message.eta);
    this.times(message);
    state.routeExpiredAt = timeOf(message.route_expired_at);
    if (message.last_position) this.move(fixOf(message.last_position, null));
  }

  private trackUpdate(message: TrackUpdate): void {
    const { state } = this;
    // Of a share link that begins with the pickup, when that turns out to have been at another time.
    if (state.epoch !== null && state.epoch !== message.epoch)
      this.coverage.renumber(this.route.map((fix) => fix.seq));
    state.epoch = message.epoch;
    state.status = message.status;
    state.phase = message.phase;
    state.waiting = message.waiting ?? false;
    state.runnerId = message.runner_id ?? null;
    this.times(message);
    if (message.status !== "active") state.freshness = null;
    // It was to another place.
    if (message.status !== "active" || message.old_phase !== message.phase) state.eta = null;
  }

  /** What a message does not have stays as it is. */
  private times(message: Welcome | TrackUpdate): void {
    const { state } = this;
    if (message.started_at !== undefined) state.startedAt = timeOf(message.started_at);
    if (message.picked_up_at !== undefined) state.pickedUpAt = timeOf(message.picked_up_at);
    if (message.completed_at !== undefined) state.completedAt = timeOf(message.completed_at);
  }

  private arrivals(parts: ArrivalsPart | null | undefined): void {
    this.state.pickup = arrivalOf(parts?.pickup);
    this.state.dropoff = arrivalOf(parts?.dropoff);
  }

  private reset(message: Welcome): void {
    this.route.length = 0;
    this.state.newest = null;
    this.aside = [];
    // Who resumes in vain gets the whole route, whatever was asked for at first.
    const comes = this.wantsHistory || message.recovered === false;
    this.coverage.reset(comes ? 0 : message.seq);
    this.changes.push({ kind: "reset" });
  }

  private backfill(message: Backfill): void {
    const fixes = message.points.map((point: Waypoint) => fixOf(point, null));
    this.add(fixes, message.after_seq, message.through_seq, message.more);
  }

  /** All of the route above `after`, up to `through`, is among these. */
  private add(fixes: Fix[], after: number, through: number, more: boolean): void {
    const fresh = fixes.filter((fix) => !this.coverage.has(fix.seq));
    const added = fresh.filter((fix) => !holds(this.flagged, fix.seq));
    if (added.length < fresh.length) this.aside.push(...fresh.filter((fix) => !added.includes(fix)));
    if (added.length > 0) {
      const { newest } = this.state;
      const isBehind = newest !== null && added.some((fix) => !isLater(fix, newest));
      const late = insert(this.route, added) || isBehind;
      this.changes.push({ kind: "route", added, late });
    }
    const seqs = fresh.map((fix) => fix.seq);
    this.coverage.cover(seqs, after, through, more);
  }

  /**
   * These are left out of the route, and no others. What is known already is drawn anew: rare, since
   * almost all are flagged before they come.
   */
  private flag(runs: readonly Run[]): void {
    this.flagged = runs;
    const isOut = (fix: Fix): boolean => holds(runs, fix.seq);
    const back = this.aside.filter((fix) => !isOut(fix));
    const gone = runs.length > 0 ? this.route.filter(isOut) : [];
    if (back.length + gone.length === 0) return;
    this.aside = [...this.aside.filter(isOut), ...gone];
    const kept = [...this.route.filter((fix) => !isOut(fix)), ...back];
    this.route.length = 0;
    insert(this.route, kept);
    this.changes.push({ kind: "reset" });
    if (kept.length > 0) this.changes.push({ kind: "route", added: [...this.route], late: true });
    const { newest } = this.state; // stays where it is, also on what is flagged now
    if (newest !== null) this.changes.push({ kind: "position", fix: newest });
  }

  /** The marker never goes back. */
  private move(fix: Fix): void {
    const { newest } = this.state;
    if (holds(this.flagged, fix.seq) || (newest !== null && !isLater(fix, newest))) return;
    this.state.newest = fix;
    this.changes.push({ kind: "position", fix });
  }
}

function timeOf(time: string | null | undefined): number | null {
  return time ? milliseconds(time) : null;
}

function arrivalOf(part: ArrivalPart | null | undefined): TripArrival | null {
  if (!part) return null;
  return { state: part.state, arrivedAt: timeOf(part.arrived_at), leftAt: timeOf(part.left_at) };
}

function etaOf(part: EtaPart | null | undefined): TripEta | null {
  if (!part) return null;
  return {
    arrivesAt: milliseconds(part.arrives_at),
    earliest: milliseconds(part.earliest),
    latest: milliseconds(part.latest),
  };
}

function freshnessOf(part: FreshnessPart): TripFreshness {
  return {
    state: part.state,
    reason: part.reason,
    lastReceivedAt: timeOf(part.last_received_at),
    nextExpectedAt: timeOf(part.next_expected_at),
  };
}

// A trip's state in words. Pure: what is said depends on the model and the time only. That time is
// the model's clock, performance.now().

import { silenceOf, type TripState } from "service-tracking-client";
import * as words from "../page/words.ts";

export type Tone = "live" | "stale" | "over" | "none";

/** What stands at the top of the page. */
export interface Status {
  headline: string;
  /** Why what is seen is not live; empty while it is. */
  notice: string;
  badge: string;
  tone: Tone;
}

export function statusOf(state: TripState, now: number, needsLogin: boolean): Status {
  const text = words.words;
  if (needsLogin || state.link === "refused") {
    const isExpired = needsLogin || state.closeCode === 4501;
    return { headline: isExpired ? text.expired : text.refused, notice: "", badge: "", tone: "none" };
  }
  const headline = headlineOf(state);
  if (state.status === "completed" || state.status === "cancelled" || state.link === "over") {
    return { headline, notice: "", badge: "", tone: "over" };
  }
  if (state.status === null) {
    const notice = state.link === "down" ? linkNotice(state, now) : "";
    return { headline: text.connecting, notice, badge: "", tone: "none" };
  }
  const notice = noticeOf(state, now);
  if (notice !== "") return { headline, notice, badge: text.stale, tone: "stale" };
  const isLive = state.status === "active" && state.newest !== null;
  return { headline, notice: "", badge: isLive ? text.live : "", tone: isLive ? "live" : "none" };
}

function headlineOf(state: TripState): string {
  const text = words.words;
  if (state.waiting) return text.waiting;
  if (state.status === "completed") return text.completed;
  if (state.status === "cancelled") return text.cancelled;
  if (state.status === "requested") return text.requested;
  if (state.status === null) return text.connecting;
  return arrivalOf(state) ?? (state.phase === "to_pickup" ? text.toPickup : text.toDropoff);
}

/** What is said of the way that the runner is on. */
function arrivalOf(state: TripState): string | null {
  const text = words.words;
  const atPickup = state.phase === "to_pickup";
  const arrival = atPickup ? state.pickup : state.dropoff;
  if (arrival?.state === "arrived" && arrival.arrivedAt !== null) {
    const time = words.timeOfDay(arrival.arrivedAt);
    return atPickup ? text.atPickup(time) : text.atDropoff(time);
  }
  // Who was there and has left may drive away as well as come back.
  if (arrival?.state !== "approaching" || arrival.leftAt !== null) return null;
  return atPickup ? text.nearPickup : text.nearDropoff;
}

function noticeOf(state: TripState, now: number): string {
  const text = words.words;
  switch (silenceOf(state)) {
    case "link": return linkNotice(state, now);
    case "service": return text.service;
    case "unusable": return text.unusable;
    case "phone": return text.phone;
    case "other": return text.stale;
    default: return "";
  }
}

function linkNotice(state: TripState, now: number): string {
  const seconds = state.retryAt === null ? 0 : Math.ceil((state.retryAt - now) / 1000);
  const text = words.words;
  return seconds > 0 ? `${text.link}. ${text.retryIn(seconds)}` : text.link;
}

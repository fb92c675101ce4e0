// Where the page's access token comes from: the address's fragment, the page that embeds this one,
// or the login page. It is kept for the tab only, so that a reload does not ask again.

import { config } from "./config.ts";

export class NoToken extends Error {
  override name = "NoToken";
}

// What a subprotocol of a WebSocket may have, as which the token goes; a JWT has no others.
const LETTERS = /^[\w.~+-]+$/;
const KEY = "service-tracking.token";
// The embedding page may have to fetch one.
const ANSWER_MS = 15_000;
// A token that ends so soon is not worth a connection.
const LEAST_LIFE_MS = 5_000;

/** Takes the token out of the address at once: it must not be copied with it. */
export function takeFragment(): void {
  take();
  // A link that is pasted into the address of the open page: another person, perhaps.
  window.addEventListener("hashchange", () => {
    if (take()) location.reload();
  });
}

/** True if there was one. */
function take(): boolean {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const token = parameters.get("token");
  if (token === null) return false;
  parameters.delete("token");
  const rest = parameters.size > 0 ? `#${parameters.toString()}` : "";
  history.replaceState(history.state, "", location.pathname + location.search + rest);
  if (LETTERS.test(token)) keep(token);
  else forget(); // the browser would refuse to open a socket with it
  return true;
}

/** A token that is good now. Raises NoToken when there is none to be had without a person. */
export async function token(why: "join" | "expiring" | "expired"): Promise<string> {
  const kept = why === "join" ? stored() : null;
  if (kept !== null) return kept;
  if (isEmbedded()) {
    // The socket and the first REST call ask at once: one question is enough.
    asked ??= fromParent(why).finally(() => (asked = null));
    const given = await asked;
    keep(given);
    return given;
  }
  // The one that we have may still be good for a while, or another tab's login has renewed it.
  const last = stored();
  if (last !== null && why === "expiring") throw new NoToken("no way to renew it in this page");
  if (last !== null && millisecondsLeft(last) > LEAST_LIFE_MS) return last;
  forget();
  throw new NoToken("no token");
}

/** The login page, which comes back here with `#token=`; null without one. */
export function loginAddress(): string | null {
  if (config.loginUrl === null || isEmbedded()) return null;
  const url = new URL(config.loginUrl, location.href);
  url.searchParams.set("return", location.origin + location.pathname);
  return url.href;
}

export function isEmbedded(): boolean {
  return window.parent !== window;
}

export function forget(): void {
  memory = null;
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // then nothing is there
  }
}

/** In a frame never longer than the frame: the embedding page may have another user by then. */
function keep(token: string): void {
  if (isEmbedded()) {
    memory = token;
    return;
  }
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    memory = token; // storage is forbidden with some settings
  }
}

let memory: string | null = null;
let asked: Promise<string> | null = null;

function stored(): string | null {
  let kept = memory;
  try {
    if (!isEmbedded()) kept ??= sessionStorage.getItem(KEY);
  } catch {
    // storage is forbidden in some frames, and with some settings
  }
  if (kept === null || millisecondsLeft(kept) > LEAST_LIFE_MS) return kept;
  return null;
}

/** Read, not verified: the server does that. Infinite for what is no JWT. */
function millisecondsLeft(token: string): number {
  try {
    const part = token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(atob(part)) as { exp?: number };
    return exp === undefined ? Infinity : exp * 1000 - Date.now();
  } catch {
    return Infinity;
  }
}

/** Ask the embedding page; only allowed origins are asked and believed. */
function fromParent(why: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const channel = crypto.randomUUID();
    const done = (): void => {
      clearTimeout(timer);
      window.removeEventListener("message", hear);
    };
    const hear = (event: MessageEvent): void => {
      const data = event.data as { type?: string; channel?: string; token?: unknown };
      if (event.source !== window.parent || !config.embedOrigins.includes(event.origin)) return;
      if (data.type !== "live-trip.token" || data.channel !== channel) return;
      done();
      if (typeof data.token === "string" && LETTERS.test(data.token)) resolve(data.token);
      else reject(new NoToken("the embedding page has none"));
    };
    const timer = setTimeout(() => {
      done();
      reject(new NoToken("the embedding page does not answer"));
    }, ANSWER_MS);
    window.addEventListener("message", hear);
    for (const origin of config.embedOrigins) {
      window.parent.postMessage({ type: "live-trip.ask", channel, why }, origin);
    }
  });
}

// The owner's page, /track/{bookingId}.

import type { Place } from "./map/mercator.ts";
import { byId, setText, show } from "./page/element.ts";
import { forget, isEmbedded, loginAddress, NoToken, takeFragment, token } from "./page/token.ts";
import { words } from "./page/words.ts";
import { AfterTheTrip } from "./trip/after.ts";
import { Api, ApiError } from "./trip/api.ts";
import { Sharing } from "./trip/sharing.ts";
import { TripView } from "./trip/view.ts";

takeFragment();

const bookingId = location.pathname.split("/").filter((part) => part !== "").at(-1) ?? "";
const api = new Api(bookingId, token);
if (isEmbedded()) document.documentElement.classList.add("embedded");

const view = new TripView(
  { path: `/ws/tracking/${encodeURIComponent(bookingId)}`, token: tokenOrLogin },
  ended,
);
// Once the socket has brought the route, and again after each change: before the acceptance there
// is nothing to ask for.
let asked = "";
const after = new AfterTheTrip(bookingId, tokenOrLogin, view);
view.trip.subscribe(() => {
  const { status, phase, isWhole } = view.trip.state;
  const now = `${status} ${phase}`;
  if (!isWhole || now === asked) return;
  asked = now;
  void details();
});

/** Nobody can renew it here: the person is sent to the login, or told. */
async function tokenOrLogin(why: "join" | "expiring" | "expired"): Promise<string> {
  try {
    const given = await token(why);
    askForLogin(false);
    return given;
  } catch (error) {
    if (error instanceof NoToken && why !== "expiring") askForLogin(true);
    throw error;
  }
}

function askForLogin(isNeeded: boolean): void {
  const address = loginAddress();
  view.setNeedsLogin(isNeeded);
  setText(byId("login-text"), words.expired);
  show(byId("login"), isNeeded);
  const link = byId<HTMLAnchorElement>("login-link");
  show(link, address !== null);
  if (address !== null) link.href = address;
  setText(link, words.signIn);
}

/** What the socket does not tell: both ends, exact sums; and whether this person may share. */
async function details(): Promise<void> {
  try {
    const route = await api.route(view.trip.state.seq);
    // What it adds up to stays when the route has gone for its age.
    const isOver = route === null || route.completed_at !== null;
    const summary = isOver ? await api.summary() : null;
    const { panel } = view;
    view.setEnds({ pickup: place(route?.pickup), dropoff: place(route?.dropoff) });
    panel.startedAt = time((route ?? summary)?.started_at);
    panel.endedAt = time((route ?? summary)?.completed_at);
    panel.exactMetres = isOver ? (route?.distance_m ?? null) : null;
    panel.summary = summary;
    panel.isRouteGone = route === null;
    view.refresh();
    if (isOver) after.show(route !== null, summary);
    if (document.body.dataset["sharing"]) return;
    await api.shares();
    document.body.dataset["sharing"] = "on";
    new Sharing(api);
  } catch (error) {
    if (!(error instanceof ApiError || error instanceof NoToken)) console.warn(String(error));
  }
}

function place(point: [number, number] | null | undefined): Place | null {
  return point ? { longitude: point[0], latitude: point[1] } : null;
}

function time(text: string | null | undefined): number | null {
  return text ? Date.parse(text) : null;
}

function ended(): void {
  if (view.trip.state.closeCode === 4501) {
    forget();
    askForLogin(true);
  } else void details();
}

// The owner's page, /track/{bookingId}.

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
    const place = (point: [number, number] | null | undefined) =>
      point ? { longitude: point[0], latitude: point[1] } : null;
    view.setEnds({ pickup: place(route.pickup), dropoff: place(route.dropoff) });
    view.panel.startedAt = route.started_at ? Date.parse(route.started_at) : null;
    view.panel.endedAt = route.completed_at ? Date.parse(route.completed_at) : null;
    view.panel.exactMetres = route.completed_at ? route.distance_m : null;
    view.panel.summary = route.completed_at ? await api.summary() : null;
    view.refresh();
    if (route.completed_at) after.show();
    if (document.body.dataset["sharing"]) return;
    await api.shares();
    document.body.dataset["sharing"] = "on";
    new Sharing(api);
  } catch (error) {
    if (!(error instanceof ApiError || error instanceof NoToken)) console.warn(String(error));
  }
}

function ended(): void {
  if (view.trip.state.closeCode === 4501) {
    forget();
    askForLogin(true);
  } else void details();
}

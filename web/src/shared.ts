// A friend's page, /s/{token}: no account, and nothing about anybody.

import { words } from "./page/words.ts";
import { TripView } from "./trip/view.ts";

const token = location.pathname.split("/").filter((part) => part !== "").at(-1) ?? "";

new TripView({ path: `/ws/shared/${encodeURIComponent(token)}` }, () => undefined);
document.title = words.titleTrip;

// The menu of a trip's files. A link cannot carry the token, so each is fetched and then saved: the
// browser keeps a large one on its disk meanwhile.

import { afterTheTrip } from "./after-words.ts";
import { element, setText } from "./element.ts";

const BASE = "/api/v1/tracking";
const FORMATS = ["gpx", "geojson", "kml", "csv"];

const WHY: Record<number, string> = { 409: afterTheTrip.notYet, 410: afterTheTrip.gone };

type Token = (why: "join" | "expired") => Promise<string>;

export class Downloads {
  readonly node = element("details", { class: "downloads" });
  private readonly list = element("ul");
  private readonly told = element("p", { class: "told", role: "status" });
  private isLoading = false;

  constructor(
    private readonly bookingId: () => string,
    private readonly token: Token,
    hasRoute = true,
  ) {
    const text = afterTheTrip;
    this.node.append(element("summary", {}, text.download), this.list, this.told);
    for (const format of hasRoute ? FORMATS : []) {
      this.add(text.formats[format]!, `export.${format}`, `trip.${format}`);
    }
    this.node.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.node.open) this.close();
    });
  }

  add(name: string, path: string, file: string): void {
    const button = element("button", { type: "button", "data-file": path }, name);
    button.addEventListener("click", () => void this.load(path, file));
    this.list.append(element("li", {}, button));
  }

  close(): void {
    this.node.open = false;
    setText(this.told, "");
    this.node.querySelector("summary")?.focus();
  }

  /** Another trip is shown. */
  forget(): void {
    this.node.open = false;
    setText(this.told, "");
  }

  private async load(path: string, file: string): Promise<void> {
    if (this.isLoading) return;
    this.isLoading = true;
    setText(this.told, afterTheTrip.loading);
    try {
      const answer = await this.ask(path);
      if (!answer.ok) {
        setText(this.told, WHY[answer.status] ?? afterTheTrip.failed);
        return;
      }
      // What breaks off on the way is an error here, never half a file.
      const name = nameOf(answer) ?? file;
      save(await answer.blob(), name);
      setText(this.told, afterTheTrip.loaded(name));
    } catch {
      setText(this.told, afterTheTrip.failed);
    } finally {
      this.isLoading = false;
    }
  }

  private async ask(path: string): Promise<Response> {
    const url = `${BASE}/${encodeURIComponent(this.bookingId())}/${path}`;
    const asked = async (why: "join" | "expired"): Promise<Response> =>
      fetch(url, {
        headers: { Authorization: `Bearer ${await this.token(why)}` },
        cache: "no-store",
        referrerPolicy: "no-referrer",
      });
    const answer = await asked("join");
    return answer.status === 401 ? asked("expired") : answer;
  }
}

/** As the server names it. */
function nameOf(answer: Response): string | null {
  const header = answer.headers.get("Content-Disposition") ?? "";
  return /filename="([\w. -]+)"/.exec(header)?.[1] ?? null;
}

function save(content: Blob, name: string): void {
  const url = URL.createObjectURL(content);
  element("a", { href: url, download: name }).click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// <live-trip booking="…">: the owner's page in a frame of somebody else's. The only module that the
// embedding page loads; the trip's own code stays in the frame, under its own policy.
//
//   const trip = document.querySelector("live-trip");
//   trip.refresh = async (why) => (await fetch("/my/token")).text();   // or: trip.token = "…"

const SERVER = new URL(import.meta.url).origin;

export type Refresh = (why: "join" | "expiring" | "expired") => Promise<string> | string;

export class LiveTrip extends HTMLElement {
  static readonly observedAttributes = ["booking", "lang"];

  /** A token for the first join. Not an attribute: those are seen by everybody. */
  token: string | null = null;
  /** Asked when there is no token, or it has run out, or is about to. */
  refresh: Refresh | null = null;

  private frame: HTMLIFrameElement | null = null;

  connectedCallback(): void {
    window.addEventListener("message", this.hear);
    this.show();
  }

  disconnectedCallback(): void {
    window.removeEventListener("message", this.hear);
    this.frame?.remove();
    this.frame = null;
  }

  attributeChangedCallback(): void {
    if (this.isConnected) this.show();
  }

  private show(): void {
    const booking = this.getAttribute("booking");
    this.frame?.remove();
    this.frame = null;
    if (!booking) return;
    const url = new URL(`/track/${encodeURIComponent(booking)}`, SERVER);
    const language = this.getAttribute("lang");
    if (language) url.searchParams.set("lang", language);
    const frame = document.createElement("iframe");
    frame.title = this.title || "Live trip";
    frame.src = url.href;
    frame.referrerPolicy = "no-referrer";
    frame.allow = "clipboard-write";
    frame.style.cssText = "border:0;width:100%;height:100%;display:block";
    if (getComputedStyle(this).display === "inline") this.style.display = "block";
    this.frame = frame;
    this.append(frame);
  }

  /** Answers only its own frame, and only while that shows a page of the server. */
  private readonly hear = (event: MessageEvent): void => {
    const frame = this.frame?.contentWindow;
    if (event.source !== frame || !frame || event.origin !== SERVER) return;
    const { type, channel, why } = event.data as { type?: string; channel?: string; why?: never };
    if (type !== "live-trip.ask") return;
    void this.given(why ?? ("join" as never)).then((token) => {
      frame.postMessage({ type: "live-trip.token", channel, token }, SERVER);
    });
  };

  private async given(why: "join" | "expiring" | "expired"): Promise<string | null> {
    const kept = this.token;
    if (why === "join" && kept !== null) return kept;
    try {
      return this.refresh === null ? null : await this.refresh(why);
    } catch {
      return null; // the frame says that it has none
    }
  }
}

if (!customElements.get("live-trip")) customElements.define("live-trip", LiveTrip);

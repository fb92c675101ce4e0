// The owner's dialog for share links: make, copy, see who looks, revoke.

import { byId, element, setText, show } from "../page/element.ts";
import * as words from "../page/words.ts";
import type { Api, Share } from "./api.ts";

const HOURS = [1, 4, 24, 72, 168];
const USUAL_HOURS = 24;
const AFTER_END_S = 6 * 3600;

export class Sharing {
  private readonly dialog = byId<HTMLDialogElement>("sharing");
  private readonly open = byId<HTMLButtonElement>("share");
  private readonly list = element("ul", { class: "shares" });
  private readonly told = element("p", { class: "told", role: "status" });
  private readonly label = element("input", { maxlength: "80", autocomplete: "off" });
  private readonly hours = element("select");
  private readonly fromPickup = element("input", { type: "checkbox" });
  /** Links are kept hashed: only those that were made here can be copied again. */
  private readonly urls = new Map<string, string>();

  constructor(private readonly api: Api) {
    const text = words.words;
    setText(this.open, text.share);
    show(this.open, true);
    for (const hours of HOURS) {
      const option = element("option", { value: String(hours) }, text.shareHours(hours));
      option.selected = hours === USUAL_HOURS;
      this.hours.append(option);
    }
    this.build();
    this.open.addEventListener("click", () => {
      this.dialog.showModal();
      void this.load();
    });
  }

  private build(): void {
    const text = words.words;
    const make = element("button", { type: "submit", class: "primary" }, text.shareMake);
    const close = element("button", { type: "button" }, text.close);
    const form = element(
      "form",
      {},
      element("label", {}, text.shareLabel, this.label),
      element("label", {}, text.shareFor, this.hours),
      element("label", { class: "check" }, this.fromPickup, text.shareFromPickup),
      make,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.make();
    });
    close.addEventListener("click", () => this.dialog.close());
    this.dialog.setAttribute("aria-label", text.shareTitle);
    this.dialog.append(
      element("header", {}, element("h2", {}, text.shareTitle), close),
      form,
      this.told,
      this.list,
    );
  }

  private async make(): Promise<void> {
    await this.attempt(async () => {
      const label = this.label.value.trim();
      const made = await this.api.share({
        expires_in_s: Number(this.hours.value) * 3600,
        from: this.fromPickup.checked ? "pickup" : "now",
        after_end_s: AFTER_END_S,
        ...(label ? { label } : {}),
      });
      this.urls.set(made.id, made.share_url);
      this.label.value = "";
      await this.copy(made.share_url);
      await this.load();
    });
  }

  private async load(): Promise<void> {
    await this.attempt(async () => {
      const shares = await this.api.shares();
      const rows = shares.map((share) => this.row(share));
      this.list.replaceChildren(
        ...(rows.length > 0 ? rows : [element("li", {}, words.words.shareNone)]),
      );
    });
  }

  private row(share: Share): HTMLElement {
    const text = words.words;
    const last = share.last_opened_at;
    const opens = text.shareOpens(share.opens, last && words.dayAndTime(Date.parse(last)));
    const isOpen = share.status === "active" || share.status === "waiting";
    const until = isOpen
      ? `${text.shareUntil} ${words.dayAndTime(Date.parse(share.expires_at))}`
      : share.status === "revoked" ? text.shareRevoked : words.words.ended;
    const row = element(
      "li",
      { "data-status": share.status },
      element("strong", {}, share.label ?? share.id.slice(0, 8)),
      element("span", {}, `${until} · ${opens}`),
    );
    const url = this.urls.get(share.id);
    if (isOpen && url !== undefined) {
      const copy = element("button", { type: "button" }, text.shareCopy);
      copy.addEventListener("click", () => void this.copy(url));
      row.append(copy);
    }
    if (isOpen) {
      const revoke = element("button", { type: "button", class: "danger" }, text.shareRevoke);
      revoke.addEventListener("click", () => {
        void this.attempt(async () => {
          await this.api.revoke(share.id);
          await this.load();
        });
      });
      row.append(revoke);
    }
    return row;
  }

  private async copy(url: string): Promise<void> {
    let told = url;
    try {
      await navigator.clipboard.writeText(url);
      told = `${words.words.shareCopied}: ${url}`;
    } catch {
      // Not everywhere allowed: it can be read and selected.
    }
    setText(this.told, told);
  }

  private async attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      console.warn(`sharing: ${String(error)}`);
      setText(this.told, words.words.shareFailed);
    }
  }
}

// The owner's dialog for share links: make, copy, extend, see who looks, revoke.

import { byId, element, setText, show } from "../page/element.ts";
import * as words from "../page/words.ts";
import type { Api, Share } from "./api.ts";
import { HOURS, nameOf, ShareRow, termsOf } from "./share-row.ts";

const USUAL_HOURS = 24;
const AFTER_END_S = 6 * 3600;
// Who looks now is asked for while somebody wants to know.
const LOOK_MS = 5_000;

export class Sharing {
  private readonly dialog = byId<HTMLDialogElement>("sharing");
  private readonly open = byId<HTMLButtonElement>("share");
  private readonly list = element("ul", { class: "shares" });
  private readonly none = element("p", { class: "none" }, words.words.shareNone);
  private readonly told = element("p", { class: "told", role: "status" });
  private readonly label = element("input", { maxlength: "80", autocomplete: "off" });
  private readonly hours = element("select");
  private readonly fromPickup = element("input", { type: "checkbox" });
  private readonly rows = new Map<string, ShareRow>();
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
      this.say("");
      this.dialog.showModal();
      void this.attempt(() => this.load());
      const timer = setInterval(() => void this.look(), LOOK_MS);
      this.dialog.addEventListener("close", () => clearInterval(timer), { once: true });
    });
  }

  private build(): void {
    const text = words.words;
    const make = element("button", { type: "submit", class: "primary" }, text.shareMake);
    const close = element("button", { type: "button" }, text.close);
    const form = element(
      "form",
      { class: "make" },
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
      this.none,
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
    const shares = await this.api.shares();
    for (const share of shares) this.rowOf(share).update(share, this.urls.has(share.id));
    const known = new Set(shares.map(({ id }) => id));
    for (const [id, row] of this.rows) {
      if (known.has(id)) continue;
      row.node.remove();
      this.rows.delete(id);
    }
    show(this.none, shares.length === 0);
    // Newest first; one that is in its place stays, since a node that is moved loses the focus.
    shares.forEach(({ id }, index) => {
      const { node } = this.rows.get(id)!;
      const there = this.list.children[index];
      if (there !== node) this.list.insertBefore(node, there ?? null);
    });
  }

  /** Again and again: a failure is shown by what somebody does, not by this. */
  private async look(): Promise<void> {
    if (document.visibilityState === "hidden") return;
    await this.load().catch((error: unknown) => console.warn(`sharing: ${String(error)}`));
  }

  private rowOf(share: Share): ShareRow {
    const known = this.rows.get(share.id);
    if (known !== undefined) return known;
    const row = new ShareRow(share, {
      changed: ({ id }, changes) =>
        this.attempt(async () => {
          const changed = await this.api.changeShare(id, changes);
          row.update(changed, this.urls.has(id));
          this.say(`${nameOf(changed)}: ${termsOf(changed)}`);
        }),
      revoked: ({ id }) =>
        this.attempt(async () => {
          await this.api.revoke(id);
          await this.load();
          this.say("");
        }),
      copied: ({ id }) => void this.copy(this.urls.get(id) ?? ""),
    });
    this.rows.set(share.id, row);
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
    this.say(told);
  }

  private say(text: string): void {
    setText(this.told, text);
  }

  /** False if it failed, which is said. */
  private async attempt(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      console.warn(`sharing: ${String(error)}`);
      this.say(words.words.shareFailed);
      return false;
    }
  }
}

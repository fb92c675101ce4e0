// The scale bar over either base map.

import { element, setText } from "../page/element.ts";
import * as words from "../page/words.ts";
import type { Camera } from "./mercator.ts";
import { scaleOf } from "./scale.ts";

const LONGEST_PX = 96;

export class ScaleBar {
  readonly element = element("div", { class: "scale" });
  private readonly bar = element("span");
  private readonly text = element("b");

  constructor() {
    this.element.append(this.text, this.bar);
  }

  setCamera(camera: Camera): void {
    const { metres, length } = scaleOf(camera, LONGEST_PX);
    setText(this.text, words.roundDistance(metres));
    const width = `${Math.round(length)}px`;
    if (this.bar.style.width !== width) this.bar.style.width = width;
  }
}

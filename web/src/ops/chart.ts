// Speed over time, tied to the map: where the pointer is, the marker is.

import { onThemeChange } from "../map/theme.ts";
import { element } from "../page/element.ts";

export interface Sample {
  at: number; // ms since 1970
  speed: number | null; // km/h
  late: boolean;
}

const HEIGHT_PX = 110;
const LEFT_PX = 34;
const BOTTOM_PX = 4;

export class SpeedChart {
  readonly canvas = element("canvas", { class: "chart", role: "img" });
  private samples: readonly Sample[] = [];
  private at = 0;

  constructor(private readonly picked: (at: number) => void) {
    const pick = (event: PointerEvent): void => {
      if (event.type === "pointermove" && event.buttons === 0) return;
      const { begin, end } = this.span();
      const width = this.canvas.clientWidth - LEFT_PX;
      const share = Math.max(0, Math.min(1, (event.offsetX - LEFT_PX) / width));
      this.picked(begin + (end - begin) * share);
    };
    this.canvas.addEventListener("pointerdown", pick);
    this.canvas.addEventListener("pointermove", pick);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    onThemeChange(() => this.draw());
  }

  show(samples: readonly Sample[], label: string): void {
    this.samples = samples;
    this.canvas.setAttribute("aria-label", label);
    this.draw();
  }

  mark(at: number): void {
    this.at = at;
    this.draw();
  }

  private span(): { begin: number; end: number } {
    const begin = this.samples[0]?.at ?? 0;
    return { begin, end: Math.max(this.samples.at(-1)?.at ?? 1, begin + 1) };
  }

  private draw(): void {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    if (width === 0) return;
    this.canvas.width = width * ratio;
    this.canvas.height = HEIGHT_PX * ratio;
    const context = this.canvas.getContext("2d")!;
    context.scale(ratio, ratio);
    const style = getComputedStyle(this.canvas);
    const top = Math.max(20, ...this.samples.map(({ speed }) => speed ?? 0)) * 1.1;
    const { begin, end } = this.span();
    const x = (at: number): number => LEFT_PX + ((at - begin) / (end - begin)) * (width - LEFT_PX);
    const y = (speed: number): number =>
      HEIGHT_PX - BOTTOM_PX - (speed / top) * (HEIGHT_PX - 2 * BOTTOM_PX);
    context.fillStyle = style.color;
    context.strokeStyle = style.borderColor;
    context.font = "11px system-ui, sans-serif";
    const step = top > 80 ? 40 : 20;
    for (let speed = 0; speed < top; speed += step) {
      context.fillText(String(speed), 4, y(speed) - 1);
      context.beginPath();
      context.moveTo(LEFT_PX, y(speed));
      context.lineTo(width, y(speed));
      context.stroke();
    }
    this.line(context, style, x, y);
    context.fillStyle = style.getPropertyValue("--marker");
    context.fillRect(x(this.at) - 1, 0, 2, HEIGHT_PX);
  }

  private line(
    context: CanvasRenderingContext2D,
    style: CSSStyleDeclaration,
    x: (at: number) => number,
    y: (speed: number) => number,
  ): void {
    context.beginPath();
    let pen = false;
    for (const { at, speed } of this.samples) {
      if (speed === null) pen = false;
      else if (pen) context.lineTo(x(at), y(speed));
      else {
        context.moveTo(x(at), y(speed));
        pen = true;
      }
    }
    context.lineWidth = 2;
    context.strokeStyle = style.getPropertyValue("--accent");
    context.stroke();
    context.fillStyle = style.getPropertyValue("--stale");
    for (const { at, late } of this.samples) {
      if (late) context.fillRect(x(at) - 1, HEIGHT_PX - 6, 2, 6);
    }
  }
}

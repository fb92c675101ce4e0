// The base map where there is no WebGL: land and sea on a canvas, drag and zoom.

import { type BaseMap, type BaseMapEvents, CLOSEST_ZOOM, HOME } from "./base-map.ts";
import { type Bounds, type Camera, fitted, type Padding, type Place, Projection } from "./mercator.ts";
import { theme } from "./theme.ts";
import { loadWorld, type World } from "./world.ts";

const NOTHING: Padding = { top: 0, right: 0, bottom: 0, left: 0 };
const WHEEL_STEP = 0.0025;

export class PlainMap implements BaseMap {
  readonly isWhole = false;
  camera: Camera;
  private readonly canvas = document.createElement("canvas");
  private readonly resized = new ResizeObserver(() => this.show(this.camera));
  private readonly pointers = new Map<number, { x: number; y: number }>();
  private world: World | null = null;

  constructor(
    private readonly host: HTMLElement,
    private readonly events: BaseMapEvents,
    begin: Camera | null,
  ) {
    this.canvas.className = "plain-map";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "region");
    this.canvas.setAttribute("aria-label", host.dataset["title"] ?? "Map");
    this.camera = begin ?? fitted(HOME, this.size(), NOTHING, 5);
    host.append(this.canvas);
    this.resized.observe(host);
    this.canvas.addEventListener("wheel", this.wheel, { passive: false });
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"] as const) {
      this.canvas.addEventListener(name, this.pointer);
    }
    this.canvas.addEventListener("keydown", this.key);
    loadWorld().then((world) => {
      this.world = world;
      this.draw();
      events.drawn(this.isWhole);
    }, () => undefined); // without coasts the route is drawn all the same
  }

  fit(bounds: Bounds, padding: Padding): void {
    this.show(fitted(bounds, this.size(), padding, CLOSEST_ZOOM));
  }

  centre({ longitude, latitude }: Place, padding: Padding): void {
    const point = { west: longitude, east: longitude, south: latitude, north: latitude };
    this.show(fitted(point, this.size(), padding, this.camera.zoom));
  }

  zoomBy(steps: number): void {
    this.show({ ...this.camera, zoom: Math.max(1, Math.min(19, this.camera.zoom + steps)) });
  }

  restyle(): void {
    this.draw();
    this.events.drawn(this.isWhole);
  }

  isAlive(): Promise<boolean> {
    return Promise.resolve(true);
  }

  remove(): void {
    this.resized.disconnect();
    this.canvas.remove();
  }

  private size(): { width: number; height: number } {
    return { width: this.host.clientWidth, height: this.host.clientHeight };
  }

  private show(camera: Camera): void {
    this.camera = { ...camera, ...this.size() };
    this.draw();
    this.events.moved(this.camera);
  }

  private draw(): void {
    const colours = theme().map;
    const context = this.canvas.getContext("2d")!;
    Object.assign(this.canvas, this.size());
    context.fillStyle = colours.sea;
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.world === null) return;
    const projection = new Projection(this.camera);
    context.fillStyle = colours.land;
    context.strokeStyle = colours.border;
    for (const { geometry } of this.world.land.features) {
      const polygons =
        geometry.type === "MultiPolygon" ? geometry.coordinates
        : geometry.type === "Polygon" ? [geometry.coordinates] : [];
      for (const rings of polygons) this.ring(context, projection, rings[0] ?? []);
    }
  }

  private ring(context: CanvasRenderingContext2D, to: Projection, ring: number[][]): void {
    context.beginPath();
    for (const [longitude, latitude] of ring) {
      context.lineTo(to.x(longitude!), to.y(latitude!));
    }
    context.fill();
    context.stroke();
  }

  private readonly wheel = (event: WheelEvent): void => {
    event.preventDefault();
    this.events.touched();
    this.zoomBy(-event.deltaY * WHEEL_STEP);
  };

  private readonly pointer = (event: PointerEvent): void => {
    const before = this.pointers.get(event.pointerId);
    if (event.type === "pointerdown") {
      this.canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    } else if (event.type !== "pointermove") {
      this.pointers.delete(event.pointerId);
    } else if (before !== undefined) {
      this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      this.events.touched();
      const { width, height } = this.camera;
      const to = new Projection(this.camera);
      const x = width / 2 + before.x - event.offsetX;
      this.show({ ...this.camera, ...to.place(x, height / 2 + before.y - event.offsetY) });
    }
  };

  private readonly key = (event: KeyboardEvent): void => {
    const step = 80;
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
    };
    const move = moves[event.key];
    if (event.key === "+" || event.key === "-") this.zoomBy(event.key === "+" ? 1 : -1);
    else if (move === undefined) return;
    else {
      const { width, height } = this.camera;
      const to = new Projection(this.camera);
      this.show({ ...this.camera, ...to.place(width / 2 + move[0], height / 2 + move[1]) });
    }
    event.preventDefault();
    this.events.touched();
  };
}

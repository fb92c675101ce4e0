// The base map of MapLibre GL JS. Loaded late: the text of a trip does not wait for it.

import { Map as GlMap, type GeoJSONSource, setWorkerUrl, type StyleSpecification } from "maplibre-gl";
import workerUrl from "virtual:maplibre-worker";
import { config } from "../page/config.ts";
import { setText, show } from "../page/element.ts";
import { type BaseMap, type BaseMapEvents, CLOSEST_ZOOM, HOME } from "./base-map.ts";
import { type Bounds, type Camera, fitted, type Padding, type Place } from "./mercator.ts";
import { builtInStyle } from "./style.ts";
import { theme } from "./theme.ts";
import { collection, graticule, loadWorld } from "./world.ts";

const EASE_MS = 600;
// A worker that is there answers in milliseconds.
const PROBE_MS = 2000;
// An outside style that has not come by then is not waited for.
const STYLE_MS = 5000;

const worker = new URL(workerUrl, location.href).href;
setWorkerUrl(worker);
// The only script that this page may start by its address; HTML from text there is none.
window.trustedTypes?.createPolicy("default", {
  createScriptURL: (url: string) => {
    if (url === worker) return url;
    throw new TypeError(`no script of this page: ${url}`);
  },
});

/** Throws where there is no WebGL. */
export async function createMap(
  host: HTMLElement,
  events: BaseMapEvents,
  begin: Camera | null,
): Promise<BaseMap> {
  const { style, isBuiltIn } = await chosenStyle();
  return new MapLibreMap(host, events, begin, style, isBuiltIn);
}

/** The operator's style, or the built-in one when there is none or it cannot be had. */
async function chosenStyle(): Promise<{ style: StyleSpecification; isBuiltIn: boolean }> {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  const url = (dark ? config.mapStyleUrlDark : null) ?? config.mapStyleUrl;
  if (url !== null) {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(STYLE_MS) });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const style = (await answer.json()) as StyleSpecification | null;
      if (!Array.isArray(style?.layers)) throw new Error("no style");
      return { style, isBuiltIn: false };
    } catch (error) {
      console.warn(`map style ${url} cannot be had, the built-in one is shown: ${String(error)}`);
    }
  }
  return { style: await ownStyle(), isBuiltIn: true };
}

async function ownStyle(): Promise<StyleSpecification> {
  return builtInStyle(theme().map, await loadWorld(), config.mapStreetsUrl);
}

/** What MapLibre adds to an error of a source, or of one of its tiles. */
interface Failure {
  error: { message: string };
  sourceId?: string;
  tile?: unknown;
}

class MapLibreMap implements BaseMap {
  readonly isWhole = true;
  private readonly map: GlMap;
  private isStyleLoaded = false;

  constructor(
    private readonly host: HTMLElement,
    private readonly events: BaseMapEvents,
    begin: Camera | null,
    style: StyleSpecification,
    private isBuiltIn: boolean,
  ) {
    const camera = begin ?? fitted(HOME, size(host), { top: 0, right: 0, bottom: 0, left: 0 }, 5);
    this.map = new GlMap({
      container: host,
      style,
      center: [camera.longitude, camera.latitude],
      zoom: camera.zoom,
      maxZoom: 19,
      // The overlay knows no rotation, and nobody gets lost.
      maxPitch: 0,
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      attributionControl: false,
      fadeDuration: 0,
      canvasContextAttributes: { powerPreference: "default" },
      locale: { "Map.Title": host.dataset["title"] ?? "Map" },
    });
    this.attribute();
    this.map.touchZoomRotate.disableRotation();
    this.map.keyboard.disableRotation();
    this.listen();
  }

  private listen(): void {
    const { map, events } = this;
    // In the frame that shows it: the overlay moves with the map.
    map.on("render", () => events.moved(this.camera));
    map.on("move", () => events.moved(this.camera));
    map.on("resize", () => events.moved(this.camera));
    map.on("moveend", () => this.drawGraticule());
    map.on("load", () => {
      this.drawGraticule();
      events.drawn(this.isWhole);
    });
    map.on("idle", () => events.drawn(this.isWhole));
    for (const name of ["dragstart", "wheel", "touchstart"] as const) {
      map.on(name, () => events.touched());
    }
    map.on("style.load", () => {
      this.isStyleLoaded = true;
    });
    map.on("error", (failure) => this.failed(failure as Failure));
    map.on("webglcontextlost", () => console.warn("map: its WebGL context is lost"));
  }

  get camera(): Camera {
    const { lng, lat } = this.map.getCenter();
    return { longitude: lng, latitude: lat, zoom: this.map.getZoom(), ...size(this.host) };
  }

  fit(bounds: Bounds, padding: Padding, animate: boolean): void {
    this.go(fitted(bounds, size(this.host), padding, CLOSEST_ZOOM), animate);
  }

  centre(place: Place, padding: Padding, animate: boolean): void {
    const { zoom } = this.camera;
    const point = { west: place.longitude, east: place.longitude, south: place.latitude,
      north: place.latitude };
    this.go(fitted(point, size(this.host), padding, zoom), animate);
  }

  private go({ longitude, latitude, zoom }: Camera, animate: boolean): void {
    // A resize that is noticed later would end the movement half-way.
    const { clientWidth: width, clientHeight: height } = this.map.getCanvas();
    if (width !== this.host.clientWidth || height !== this.host.clientHeight) this.map.resize();
    const camera = { center: [longitude, latitude] as [number, number], zoom };
    if (animate) this.map.easeTo({ ...camera, duration: EASE_MS });
    else this.map.jumpTo(camera);
  }

  zoomBy(steps: number): void {
    this.map.easeTo({ zoom: this.map.getZoom() + steps, duration: EASE_MS / 2 });
  }

  restyle(): void {
    void chosenStyle().then(({ style, isBuiltIn }) => {
      this.isBuiltIn = isBuiltIn;
      this.setStyle(style);
    });
  }

  private setStyle(style: StyleSpecification): void {
    this.isStyleLoaded = false;
    this.attribute();
    this.map.setStyle(style, { diff: false });
    this.map.once("styledata", () => this.drawGraticule());
  }

  /** An outside style that is none, or has a source that cannot be had, gives way to the built-in. */
  private failed({ error, sourceId, tile }: Failure): void {
    console.warn(`map: ${error.message}`);
    const isUseless = !this.isStyleLoaded || (sourceId !== undefined && tile === undefined);
    if (this.isBuiltIn || !isUseless) return;
    this.isBuiltIn = true;
    void ownStyle().then((style) => this.setStyle(style));
  }

  /** Whose map it is, as text: MapLibre's own control would make HTML of what a style says. */
  private attribute(): void {
    const text = this.isBuiltIn ? "" : config.mapAttribution;
    const line = document.getElementById("attribution");
    if (line === null) return;
    setText(line, text);
    show(line, text !== "");
  }

  private drawGraticule(): void {
    const source = this.map.getSource<GeoJSONSource>("graticule");
    if (!this.isBuiltIn || source === undefined) return;
    const seen = this.map.getBounds();
    const bounds = { west: seen.getWest(), south: seen.getSouth(), east: seen.getEast(),
      north: seen.getNorth() };
    source.setData(graticule(bounds, this.map.getZoom()));
  }

  async isAlive(): Promise<boolean> {
    const source = this.map.getSource<GeoJSONSource>("graticule");
    if (source === undefined) return true;
    const answered = source.setData(collection([])).then(() => true, () => false);
    const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), PROBE_MS));
    const isAlive = await Promise.race([answered, late]);
    if (isAlive) this.drawGraticule();
    return isAlive;
  }

  remove(): void {
    this.map.remove();
  }
}

function size(host: HTMLElement): { width: number; height: number } {
  return { width: host.clientWidth, height: host.clientHeight };
}

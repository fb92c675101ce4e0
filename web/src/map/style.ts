// The built-in style: nothing in it comes from elsewhere, and labels need no glyph server.

import type { StyleSpecification } from "maplibre-gl";
import type { MapColours } from "./theme.ts";
import type { World } from "./world.ts";
import { collection } from "./world.ts";

// Without `glyphs` MapLibre draws letters with the browser's own font.
const FONT = ["sans-serif"];

/** `streets` is the address of a GeoJSON with `kind` (street, main, park, water, building), `name`. */
export function builtInStyle(
  colours: MapColours,
  world: World,
  streets: string | null,
): StyleSpecification {
  return {
    version: 8,
    sources: {
      land: { type: "geojson", data: world.land },
      borders: { type: "geojson", data: world.borders },
      names: { type: "geojson", data: world.names },
      graticule: { type: "geojson", data: collection([]) },
      ...(streets ? { streets: { type: "geojson" as const, data: streets } } : {}),
    },
    layers: [
      { id: "sea", type: "background", paint: { "background-color": colours.sea } },
      { id: "land", type: "fill", source: "land", paint: { "fill-color": colours.land } },
      {
        id: "coast", type: "line", source: "land",
        paint: { "line-color": colours.border, "line-width": 0.6 },
      },
      {
        id: "borders", type: "line", source: "borders",
        paint: { "line-color": colours.border, "line-width": 1.2, "line-dasharray": [4, 2] },
      },
      {
        id: "graticule", type: "line", source: "graticule",
        paint: { "line-color": colours.graticule, "line-width": 0.7, "line-opacity": 0.7 },
      },
      ...(streets ? streetLayers(colours) : []),
      {
        id: "graticule-names", type: "symbol", source: "graticule",
        layout: {
          "text-field": ["get", "name"], "text-font": FONT, "text-size": 10,
          "symbol-placement": "line", "symbol-spacing": 420, "text-offset": [0, -0.6],
        },
        paint: { "text-color": colours.label, "text-opacity": 0.75 },
      },
      {
        id: "countries", type: "symbol", source: "names", maxzoom: 7,
        layout: {
          "text-field": ["get", "name"], "text-font": FONT, "text-size": 12,
          "text-letter-spacing": 0.08, "text-max-width": 8,
        },
        paint: {
          "text-color": colours.label, "text-halo-color": colours.labelHalo, "text-halo-width": 1,
        },
      },
    ],
  };
}

type Layers = StyleSpecification["layers"];

function streetLayers(colours: MapColours): Layers {
  const kind = (name: string): never => ["==", ["get", "kind"], name] as never;
  const width = (thin: number, thick: number): never =>
    ["interpolate", ["exponential", 1.6], ["zoom"], 11, thin, 18, thick] as never;
  const round = { "line-cap": "round", "line-join": "round" } as const;
  const street = (id: string, filter: never, colour: string, wide: never): Layers[number] => ({
    id, type: "line", source: "streets", filter, layout: round,
    paint: { "line-color": colour, "line-width": wide },
  });
  const names = (id: string, placement: "line" | "point", filter: unknown): Layers[number] => ({
    id, type: "symbol", source: "streets", minzoom: 13.5, filter: filter as never,
    layout: {
      "text-field": ["get", "name"], "text-font": FONT, "text-size": 11,
      "symbol-placement": placement, "symbol-spacing": 320,
    },
    paint: {
      "text-color": colours.label, "text-halo-color": colours.labelHalo, "text-halo-width": 1.4,
    },
  });
  return [
    {
      id: "parks", type: "fill", source: "streets", filter: kind("park"),
      paint: { "fill-color": colours.park },
    },
    street("river", kind("water"), colours.water, width(3, 60)),
    {
      id: "buildings", type: "fill", source: "streets", minzoom: 15, filter: kind("building"),
      paint: { "fill-color": colours.building },
    },
    street("street-casing", kind("street"), colours.casing, width(0.8, 22)),
    street("main-casing", kind("main"), colours.casing, width(1.4, 30)),
    street("street", kind("street"), colours.street, width(0.5, 18)),
    street("main", kind("main"), colours.mainStreet, width(1, 25)),
    names("street-names", "line", ["in", ["get", "kind"], ["literal", ["street", "main", "water"]]]),
    names("park-names", "point", ["==", ["get", "kind"], "park"]),
  ];
}

// Stands for @maplibre/mlt, MapLibre's decoder of a tile format that no style of ours uses.

export const GEOMETRY_TYPE = {} as Record<string, number>;

export function decodeTile(): never {
  throw new Error("MLT tiles are not supported");
}

// Opens the best base map that there is here.

import type { BaseMap, BaseMapEvents } from "./base-map.ts";
import type { Camera } from "./mercator.ts";

/** MapLibre's, or the plain one where there is no WebGL. It lies below what `host` has already. */
export async function openBaseMap(
  host: HTMLElement,
  events: BaseMapEvents,
  begin: Camera | null,
): Promise<BaseMap> {
  host.querySelector(".base-map")?.remove();
  const under = document.createElement("div");
  under.className = "base-map";
  under.dataset["title"] = host.dataset["title"] ?? "";
  host.prepend(under);
  try {
    const { createMap } = await import("./maplibre.ts");
    return await createMap(under, events, begin);
  } catch (error) {
    console.warn(`map without WebGL: ${String(error)}`);
    under.replaceChildren();
    const { PlainMap } = await import("./plain.ts");
    return new PlainMap(under, events, begin);
  }
}

// Bun's own publish (uWebSockets), told by JSON lines as peers.py is.
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response("", { status: 400 })),
  websocket: { open: (viewer) => viewer.subscribe("room"), message: () => {} },
});
const id = "00000000-0000-0000-0000-000000000000";
// The service's message, field by field; times have microseconds there.
const message = (seq, due) => {
  const at = new Date(due).toISOString();
  return JSON.stringify({
    booking_id: id, runner_id: id, latitude: -6.212345, longitude: 106.812345, speed_kmh: 36.5,
    heading_degrees: 90.5, timestamp: at.slice(0, 19) + "Z", seq,
    recorded_at: at.slice(0, 23) + "000Z", received_at: at.slice(0, 23) + "000Z",
    type: "location_update",
  });
};
console.log(JSON.stringify({ port: server.port }));
for await (const line of console) {
  const { rate, seconds } = JSON.parse(line);
  const start = Date.now();
  let number = 0;
  for (;;) {
    const due = rate ? start + (number / rate) * 1000 : Date.now();
    if (due >= start + seconds * 1000) break;
    const wait = due - Date.now();
    await (wait > 0 ? Bun.sleep(wait) : new Promise(setImmediate));
    server.publish("room", message(++number, due));
  }
  console.log(JSON.stringify({ published: number }));
}
